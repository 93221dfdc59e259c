"""The heads that choose among the answers: the packaged one, and one for SmolLM2 that is trained once and kept."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from benchmarks.drift_parts.conditions import GRADERS, ModelName
from swift_client.models import HeadArtifact
from swift_client.models.resolve_head import find_for_model, load_any_head
from swift_client.training import train
from tools.smollm2 import stored

_TRAINING = ("train", "validation")


def head_of(model: ModelName, folder: Path) -> HeadArtifact:
    """Return a head of a model; SmolLM2's is trained on its stored answers if ``folder`` lacks it."""
    if model == "pocket":
        head = find_for_model("pocket", "pocket").artifact
    else:
        path = folder / "smollm2_head.safetensors"
        if not path.exists():
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as temporary:
                samples = Path(temporary) / "samples.db"
                stored.restore(stored.FILE, samples, _TRAINING)
                train(samples, answer=GRADERS[model], grade=GRADERS[model], out=path)
            print(f"head trained in {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        head = load_any_head(path)
    assert isinstance(head, HeadArtifact)
    return head

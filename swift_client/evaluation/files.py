"""Evaluation, simulation and calibration on samples files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import EllipsisType
from typing import Literal, cast

from swift_client import answers
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.stored import FilePath, open_groups, state_options
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import NS, ProgressCallback, get_answer_spec
from swift_client.evaluation.evaluate import evaluate as evaluate_groups
from swift_client.evaluation.result import Evaluation
from swift_client.evaluation.risk.calibrate import Acceptable
from swift_client.evaluation.risk.calibrate import calibrate as calibrate_groups
from swift_client.evaluation.simulation.result import Simulation
from swift_client.evaluation.simulation.simulate import simulate as simulate_groups
from swift_client.models import AnyHead, HeadArtifact, save
from swift_client.models.resolve_head import load_any_head, load_head
from swift_client.stopping import StoppingRule
from swift_client.store import SampleStore


def evaluate(
    head: FilePath | AnyHead | None,
    samples: FilePath | Sequence[FilePath],
    *,
    split: str = "test",
    ns: Sequence[int] = NS,
    subsets: int = 200,
    resamples: int = 1000,
    seed: int = 0,
    answer: answers.Spec | EllipsisType = ...,
    grade: GraderSpec | None = None,
    train_samples: FilePath | Sequence[FilePath] | None = None,
    trained: bool = True,
    progress: ProgressCallback = lambda stage, done: None,
) -> Evaluation:
    """Compare a head, or the file of one, with every other method on samples files of its model.

    ``train_samples`` are where the trained baselines learn, for ``samples`` that hold unseen questions only
    (``split="all"``). ``grade`` is as for :func:`swift_client.training.train`; the rest, and the errors, as for
    ``training.evaluate.evaluate``.
    """
    artifact = load_any_head(head) if isinstance(head, (str, os.PathLike)) else head
    spec = get_answer_spec(artifact) if isinstance(answer, EllipsisType) else answer
    groups = open_groups(samples, answer=spec, grade=grade, **state_options(artifact))
    return evaluate_groups(
        artifact,
        groups,
        split=split,
        ns=ns,
        subsets=subsets,
        resamples=resamples,
        seed=seed,
        answer=spec,
        train_groups=None if train_samples is None else open_groups(train_samples, answer=spec, grade=grade),
        trained=trained,
        provider=groups.provider,
        model=groups.model,
        progress=progress,
    )


def simulate(
    samples: FilePath | Sequence[FilePath],
    head: FilePath | HeadArtifact | None = None,
    *,
    rules: str | Sequence[str | StoppingRule] = "all",
    n: int = 16,
    orders: int = 50,
    waves: Sequence[int] = (1,),
    sweep: bool = False,
    split: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    answer: answers.Spec | EllipsisType = ...,
    grade: GraderSpec | None = None,
    progress: ProgressCallback = lambda stage, done: None,
) -> Simulation:
    """Replay stopping rules over samples files of one model: what each would have chosen and cost. Nothing is sent.

    ``head`` may be the file of one. ``grade`` is as for :func:`swift_client.training.train`; the rest, and
    the errors, as for ``training.simulate.simulate``.
    """
    artifact = load_head(head) if isinstance(head, (str, os.PathLike)) else head
    spec = get_answer_spec(artifact) if isinstance(answer, EllipsisType) else answer
    groups = open_groups(samples, answer=spec, grade=grade)
    return simulate_groups(
        groups,
        artifact,
        rules=rules,
        n=n,
        orders=orders,
        waves=waves,
        sweep=sweep,
        split=split,
        resamples=resamples,
        seed=seed,
        answer=spec,
        provider=groups.provider,
        model=groups.model,
        prompt_tokens=_mean_prompt_tokens(samples),
        progress=progress,
    )


def calibrate(
    head: FilePath | AnyHead,
    samples: FilePath | Sequence[FilePath],
    *,
    risk: float,
    confidence: float = 0.9,
    n: int = 16,
    stopping: str | StoppingRule | None = None,
    select: Literal["auto", "best", "vote"] = "auto",
    answer: answers.Spec | EllipsisType = ...,
    grade: GraderSpec | None = None,
    split: str = "unseen",
    out: FilePath | None = None,
    progress: ProgressCallback = lambda stage, done: None,
) -> Acceptable:
    """Learn above which confidence answers may be taken at ``risk``, and store it in the head.

    The head, which may be the file of one, is written to ``out``, by default its own file, where a threshold could be
    certified, and otherwise left as it is. ``answer`` is by default as in the head's training, ``grade`` as for
    :func:`swift_client.training.train`; the rest, and the errors, as for ``training.accept.calibrate``.
    """
    path = head if isinstance(head, (str, os.PathLike)) else None
    artifact = load_any_head(path) if path is not None else cast(AnyHead, head)
    out = path if out is None else out
    if out is not None and (not os.access(Path(out).absolute().parent, os.W_OK) or Path(out).is_dir()):
        raise ConfigurationError(f"{out} cannot be written.", hint="Give a file in a folder that you may write to.")
    spec = get_answer_spec(artifact) if isinstance(answer, EllipsisType) else answer
    groups = open_groups(samples, answer=spec, grade=grade, **state_options(artifact))
    artifact.check(provider=groups.provider, model=groups.model, k=artifact.k_max)
    found = calibrate_groups(
        groups,
        artifact,
        risk=risk,
        confidence=confidence,
        n=n,
        stopping=stopping,
        select=select,
        answer=spec,
        split=split,
        progress=progress,
    )
    if out is not None and found.acceptance is not None:
        save(found.head, out)
    return found


def _mean_prompt_tokens(samples: FilePath | Sequence[FilePath]) -> float | None:
    """Return the mean prompt tokens of a call, None where none were counted."""
    prompt = calls = 0
    for path in [samples] if isinstance(samples, (str, os.PathLike)) else samples:
        with SampleStore(path) as store:
            usage = store.totals().usage
        prompt, calls = prompt + usage.prompt_tokens, calls + usage.calls
    return prompt / calls if prompt else None

"""Write the stored comparisons that `swift-client demo` prints: heads against the best label-free rule.

    python -m tools.demo_results --pocket build/pocket-head-test.db --smollm2

``--pocket`` evaluates the packaged head on samples of test questions, which ``python -m tools.pocket.head`` draws.
``--smollm2`` trains a head on the training and validation questions of ``benchmarks/data/smollm2.xz`` and evaluates it
on the test questions, which takes a few minutes. A model that is not named keeps its stored numbers.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swift_client.cli.demo import stored
from swift_client.cli.demo.stored import StoredComparison
from swift_client.evaluation.advice import advise
from swift_client.evaluation.gate import NS
from swift_client.evaluation.headline import headline
from swift_client.models.library import PACKAGED_FOLDER
from swift_client.store import SampleStore
from swift_client.training import Split, evaluate, train

OUT = Path(stored.__file__).with_name(stored.RESULTS)
MODELS = {"pocket": "the packaged model", "smollm2": "SmolLM2-135M-Instruct"}


def main() -> None:
    """Evaluate the heads that are asked for, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pocket", type=Path, nargs="+", metavar="SAMPLES", help="test questions of the packaged model"
    )
    parser.add_argument("--head", type=Path, default=PACKAGED_FOLDER / "pocket.safetensors", help="the packaged head")
    parser.add_argument("--smollm2", action="store_true", help="train and test a head on the samples of SmolLM2")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    command = describe_command(sys.argv[1:])
    comparisons = {comparison.provider: comparison for comparison in stored.decode(options.out.read_bytes())}
    if options.pocket:
        comparisons["pocket"] = compare(options.head, options.pocket, command=command)
    if options.smollm2:
        with tempfile.TemporaryDirectory() as folder:
            comparisons["smollm2"] = compare(*train_smollm2(Path(folder)), command=command)
    options.out.write_bytes(stored.encode(tuple(comparisons[name] for name in MODELS if name in comparisons)))
    for comparison in comparisons.values():
        print(f"{comparison.provider}: {comparison.advice}")


def describe_command(arguments: Sequence[str]) -> str:
    """Return the command with the names of its files only, since folders say nothing on another machine."""
    return " ".join(["python -m tools.demo_results", *(Path(argument).name for argument in arguments)])


def compare(head: Path, samples: Sequence[Path], *, command: str) -> StoredComparison:
    """Evaluate a head on samples files, all of whose questions are test questions."""
    evaluation = evaluate(head, samples, split="all", ns=NS, trained=False)
    assert evaluation.provider is not None
    return StoredComparison(
        model=MODELS[evaluation.provider],
        provider=evaluation.provider,
        trained_on=training_questions(evaluation.head),
        rule_chosen_on=rule_chosen_on(evaluation.head),
        completions=evaluation.completions // evaluation.questions,
        temperature=temperature_of(samples),
        date=datetime.date.today().isoformat(),
        command=command,
        headline=headline(evaluation),
        advice=str(advise(evaluation)),
    )


def training_questions(facts: Mapping[str, Any]) -> int | None:
    """Return the number of questions for training and validation that a head's facts state, or None."""
    counts = facts.get("questions")
    return counts.get("train", 0) + counts.get("validation", 0) if isinstance(counts, dict) else None


def rule_chosen_on(facts: Mapping[str, Any]) -> int:
    """Return the number of validation questions that the best label-free rule was chosen on; 0 if none was chosen."""
    comparison = facts.get("comparison")
    return int(comparison.get("chosen_on", 0)) if isinstance(comparison, dict) else 0


def temperature_of(samples: Sequence[Path]) -> float | None:
    """Return the temperature that all samples files state, or None."""
    temperatures = set()
    for path in samples:
        with SampleStore(path) as store:
            temperatures.add(store.meta.sampling.get("temperature") if store.meta else None)
    return temperatures.pop() if len(temperatures) == 1 else None


def train_smollm2(folder: Path) -> tuple[Path, list[Path]]:
    """Train a head for SmolLM2 in ``folder``; return its file and the samples of the test questions."""
    from tools.smollm2 import stored as smollm2

    fitting, testing, head = folder / "fit.db", folder / "test.db", folder / "smollm2.safetensors"
    smollm2.restore(smollm2.FILE, fitting, ["train", "validation"])
    smollm2.restore(smollm2.FILE, testing, ["test"])
    train(fitting, out=head, answer="text", split=Split(test=0.0), test_samples=testing)
    return head, [testing]


if __name__ == "__main__":
    main()

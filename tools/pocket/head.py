"""Train and calibrate the packaged head: the packaged model's answers to its own questions, as users do it.

    python -m tools.pocket.head [--samples build/pocket-head.db] [--out swift_client/models/packaged/pocket.safetensors]

Afterwards ``python -m tools.demo_results --pocket SAMPLES`` stores the comparison that the demo prints. Further
questions, kept beside the samples, say from which confidence on an answer may be taken at a stated risk.
Samples that lie there already are gone on with, so that only what is missing is asked.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from swift_client.pocket.questions import Question, questions
from swift_client.store import StoredQuestion
from swift_client.training import Split, calibrate, collect, train

QUESTIONS, TESTED, MORE, COMPLETIONS, TEMPERATURE = 560, 600, 1200, 16, 0.8
RISKS = ((1, None, 0.1), (4, None, 0.05), (8, None, 0.05), (16, None, 0.05), (16, "auto", 0.05))
"""(n, stopping rule, share of wrong answers among the accepted ones) of each way of asking that is calibrated. From one
completion alone hardly an answer is sure enough for less than a tenth."""


def main() -> None:
    """Collect, train, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, default=Path("build/pocket-head.db"))
    parser.add_argument("--out", type=Path, default=Path("swift_client/models/packaged/pocket.safetensors"))
    options = parser.parse_args()
    options.samples.parent.mkdir(parents=True, exist_ok=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    ask(questions(QUESTIONS, seed=1, split="train"), options.samples)
    seen_ids = {question.id for question in questions(QUESTIONS, seed=1, split="train")}
    # Nothing is chosen by these: they say whether the head beats the best rule that needs no labels.
    tested = questions(TESTED, seed=5, split="validation")
    test_samples = options.samples.with_name(f"{options.samples.stem}-test{options.samples.suffix}")
    ask(tested, test_samples)
    result = train(
        options.samples, out=options.out, split=Split(test=0.0), test_samples=test_samples, licence="Apache-2.0"
    )
    print(f"{options.out}: {result.verdict}; {result.metrics}")
    more = options.samples.with_name(f"{options.samples.stem}-risk{options.samples.suffix}")
    ask([question for question in questions(MORE, seed=3, split="train") if question.id not in seen_ids], more)
    for n, stopping, risk in RISKS:
        calibration = calibrate(options.out, more, risk=risk, n=n, stopping=stopping, split="all")
        print(f"n={n}, stopping={stopping}: {calibration.acceptance or calibration.reason}")


def ask(questions_to_ask: list[Question], path: Path) -> None:
    """Collect the answers that the file does not have yet."""
    stored = [
        StoredQuestion(
            id=question.id,
            messages=({"role": "user", "content": question.prompt},),
            answer=question.answer,
            family=question.family,
        )
        for question in questions_to_ask
    ]
    collect(stored, path, provider="pocket", n=COMPLETIONS, temperature=TEMPERATURE, seed=0)


if __name__ == "__main__":
    main()

"""Train the packaged head: the packaged model's answers to its own questions, with the commands that users have.

    python -m tools.pocket.head [--samples build/pocket-head.db] [--out swift_client/heads/pocket.safetensors]

Samples that lie there already are gone on with, so that only what is missing is asked.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from swift_client.pocket.questions import questions
from swift_client.store import StoredQuestion
from swift_client.training import Split, collect, train

QUESTIONS, COMPLETIONS, TEMPERATURE = 700, 16, 0.8


def main() -> None:
    """Collect, train, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, default=Path("build/pocket-head.db"))
    parser.add_argument("--out", type=Path, default=Path("swift_client/heads/pocket.safetensors"))
    options = parser.parse_args()
    options.samples.parent.mkdir(parents=True, exist_ok=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    asked = [
        StoredQuestion(
            id=each.id, messages=({"role": "user", "content": each.prompt},), answer=each.answer, family=each.family
        )
        for each in questions(QUESTIONS, seed=1, split="train")
    ]
    collect(asked, options.samples, provider="pocket", n=COMPLETIONS, temperature=TEMPERATURE, seed=0)
    # The questions of the test split are another draw, so none of these is kept for testing.
    result = train(options.samples, out=options.out, split=Split(test=0.0), licence="Apache-2.0")
    print(f"{options.out}: {result.verdict}; {result.metrics}")


if __name__ == "__main__":
    main()

"""Everyday questions for SmolLM2: capitals, opposites and other facts that it knows sometimes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from random import Random
from typing import Any

from swift_client.pocket.questions import Question

SYSTEM = "Answer briefly."


def questions(n: int, *, seed: int) -> list[Question]:
    """Return at most ``n`` different questions, families in turn; the same arguments give the same questions."""
    columns = []
    for family, table in _read_tables().items():
        asked = [
            Question(f"{family}-{key}", family, table["ask"].format(key), answer, level=1)
            for key, answer in table["questions"].items()
        ]
        Random(f"{seed}/{family}").shuffle(asked)
        columns.append(asked)
    return [question for turn in zip(*columns, strict=True) for question in turn][:n]


def few_shot(question: Question) -> list[dict[str, str]]:
    """Return the messages that ask ``question`` after a few solved examples of its family."""
    table = _read_tables()[question.family]
    messages = [{"role": "system", "content": SYSTEM}]
    for key, answer in table["examples"].items():
        messages += [
            {"role": "user", "content": table["ask"].format(key)},
            {"role": "assistant", "content": answer},
        ]
    return [*messages, {"role": "user", "content": question.prompt}]


def _read_tables() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("everyday.toml").read_text("utf-8"))

"""Samples files and recorded replies for tests, with numbers like a real model's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.types import Completion, Usage
from tests.generated import completion

PROVIDER, MODEL = "pocket", "pocket"
"""The model of the packaged head."""


def completions_of(number: int, n: int = 4) -> list[Completion]:
    """Return the completions of question ``number``: answers 0 to 2, the last one cut off."""
    drawn = [completion(100 * number + index, tokens=5 + 3 * index + number % 7, index=index) for index in range(n)]
    return [*drawn[:-1], replace(drawn[-1], finish_reason="length")]


def write_samples(path: Path, *, questions: int = 40, n: int = 4) -> Path:
    """Write a samples file: questions q0, q1, ..., of which every tenth has no samples."""
    with SampleStore(path, write=True) as store:
        store.postpone_sync()
        store.begin(Meta(provider=PROVIDER, model=MODEL, top_logprobs=20))
        for number in range(questions):
            messages = ({"role": "user", "content": f"What is {number}?"},)
            store.add_questions([StoredQuestion(id=f"q{number}", messages=messages, answer=str(number % 3))])
            if number % 10 != 9:
                store.add_samples(f"q{number}", completions_of(number, n), usage=Usage())
    return path


def reply_of(*texts: str, model: str = "m") -> dict[str, Any]:
    """Return a chat completion with one choice per text, whose tokens are its words."""

    def choice(index: int, text: str) -> dict[str, Any]:
        words = [word for word in text.replace(" ", " \0").split("\0") if word]
        content = [
            {"token": word, "logprob": -0.1 * (index + 1), "bytes": list(word.encode()), "top_logprobs": []}
            for word in words
        ]
        message = {"role": "assistant", "content": text}
        return {"index": index, "finish_reason": "stop", "message": message, "logprobs": {"content": content}}

    return {"id": "x", "model": model, "choices": [choice(index, text) for index, text in enumerate(texts)]}


def write_replies(path: Path, count: int) -> Path:
    """Write JSON lines with ids r0, r1, ... and one reply of three choices each."""
    with path.open("w") as file:
        for number in range(count):
            reply = reply_of("The answer is 4", f"The answer is {number % 5}", "The answer is 4")
            file.write(json.dumps({"id": f"r{number}", "reply": reply}) + "\n")
    return path

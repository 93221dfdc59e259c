"""Time of reading: ordinary questions of 16 answers, and hostile texts of 200 kB."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from swift_client.answers import READERS, read

SIZE = 200_000  # characters
REPEATS = 3  # the fastest counts, since other processes can only add time
ANSWERS_PER_QUESTION = 16


def hostile_texts() -> dict[str, str]:
    """Return texts that cost a careless reader far more than their length, by name."""
    pieces = {
        "digits": "7",
        "spaced digits": "1 ",
        "grouped digits": "123,456,",
        "alternating marks": "a\u0315\u0300",
        "one letter and marks": "\u0300\u0327",
        "ligatures": "\ufdfa",
        "open braces": "{",
        "closing braces": "}",
        "nested boxes": "\\boxed{",
        "boxes": "\\boxed{3}, ",
        "answer marks": "answer is ",
        "marks without answers": "The answer is not ",
        "hashes": "#### ",
        "dollars": "$",
        "money": "$5 and ",
        "bold marks": "**",
        "bold values": "**4** ",
        "backslashes": "\\",
        "fractions": "\\frac{1}{",
        "minus signs": "- ",
        "dashes in numbers": "1-2-",
        "slashes": "1/",
        "colons": "1:",
        "dots": "1.",
        "spaces": " ",
        "newlines": "\n",
        "quotes": '"',
        "objects": '{"a":',
        "arrays": "[",
        "tags": "<answer>",
        "corrections": "wait, 3 ",
        "short sentences": "It is so. ",
        "months": "May 5 ",
        "number words": "twenty one ",
        "letters in brackets": "(A) ",
        "yes and no": "yes no ",
        "superscripts": "10⁸×",
        "table rows": "| 1 ",
        "emoji": "👩‍👩‍👧",
    }  # fmt: skip
    texts = {name: (piece * (SIZE // len(piece) + 1))[:SIZE] for name, piece in pieces.items()}
    texts["one letter and marks"] = "e" + texts["one letter and marks"][1:]
    marked = {
        f"answer, then {name}": "The answer is " + texts[name]
        for name in ("digits", "spaces", "dollars", "open braces")
    }
    return texts | {name: text[:SIZE] for name, text in marked.items()}


def seconds_of(texts: Sequence[str], reader: str, enough: float = 0.0) -> float:
    """Return the time of reading, the fastest of three unless one takes less than ``enough``."""
    fastest = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        read(texts, reader)
        fastest = min(fastest, time.perf_counter() - began)
        if fastest < enough:
            break
    return fastest


def worst_of_hostile(readers: Sequence[str] = tuple(READERS), longest: float = 60.0) -> dict[str, float]:
    """Return the seconds of reading each hostile text with the reader that takes longest.

    After ``longest`` seconds in total the other texts are left out, since a bar that is missed 200 times needs no more.
    """
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    for name, text in hostile_texts().items():
        seconds[name] = max(seconds_of([text], reader, enough=0.1) for reader in readers)
        if time.perf_counter() - start > longest:
            break
    return seconds


def milliseconds_per_question(questions: Sequence[Sequence[str]], reader: str, limit: int = 100) -> float | None:
    """Return the median time of reading questions of 16 answers each; the first ``limit`` of them after a warm-up.

    None where the set has no question of 16 answers.
    """
    asked = [texts[:ANSWERS_PER_QUESTION] for texts in questions if len(texts) >= ANSWERS_PER_QUESTION][:limit]
    if not asked:
        return None
    read(asked[0], reader)
    return statistics.median(1e3 * seconds_of(texts, reader) for texts in asked)

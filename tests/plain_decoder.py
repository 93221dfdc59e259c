"""The rules for numbers once more, as slow and as plain as possible: json and loops over dicts. Truth for the codec.

And bytes to decode: replies built as OpenAI's published specification describes them.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDINGS = Path(__file__).parents[1].parent / "shared" / "recordings"
"""Real servers' replies, beside the repository on some machines and never part of it."""


@dataclass
class Plain:
    text: str
    tokens: list[str]
    logprobs: list[float]
    top: list[list[float]]
    censored: list[bool]


def plain_completions(data: bytes, k: int | None = None) -> list[Plain]:
    reply = json.loads(data)
    return [plain_completion(choice, k) for choice in sorted(reply["choices"], key=lambda choice: choice["index"])]


def plain_completion(choice: dict[str, Any], k: int | None = None) -> Plain:
    text = choice["message"]["content"] or ""
    entries = (choice.get("logprobs") or {}).get("content") or []
    entries = spelling_run(entries, text)
    rows = [plain_row(entry.get("top_logprobs") or []) for entry in entries]
    width = max((len(row) for row in rows), default=0) if k is None else k
    logprobs, censored = [], []
    for entry, row in zip(entries, rows, strict=True):
        value = entry["logprob"]
        hidden = says_nothing(value)
        if hidden:
            tail = 1.0 - sum(math.exp(number) for number in row)
            bound = min(row[-1] if row else 0.0, math.log(tail) if tail > 0 else -math.inf)
            value = max(-20.0, bound)
        logprobs.append(min(value, 0.0))
        censored.append(hidden)
    return Plain(
        text=text,
        tokens=[bytes_of(entry).decode("utf-8", "replace") for entry in entries],
        logprobs=logprobs,
        top=[(row + [-math.inf] * width)[:width] for row in rows],
        censored=censored,
    )


def plain_row(entries: list[dict[str, Any]]) -> list[float]:
    alternatives: list[tuple[float, bytes]] = []
    for entry in entries:
        if says_nothing(entry["logprob"]):
            continue
        item = (min(entry["logprob"], 0.0), bytes_of(entry))
        if item not in alternatives:
            alternatives.append(item)
    return sorted((value for value, _ in alternatives), reverse=True)


def says_nothing(value: float | None) -> bool:
    return value is None or math.isnan(value) or math.isinf(value) or value <= -100


def bytes_of(entry: dict[str, Any]) -> bytes:
    return bytes(entry["bytes"]) if entry.get("bytes") else entry["token"].encode()


def spelling_run(entries: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Return the last run of entries that spells the text exactly."""
    for stop in range(len(entries), 0, -1):
        for start in range(stop):
            if bytes_of(entries[stop - 1]) and b"".join(map(bytes_of, entries[start:stop])) == text.encode():
                return entries[start:stop]
    return []


def entry(token: str, logprob: Any, top: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """One chosen or listed token as OpenAI writes it."""
    alternatives = {} if top is None else {"top_logprobs": top}
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()), **alternatives, **more}


def choice(content: Any, entries: list[dict[str, Any]] | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """One choice as OpenAI writes it."""
    return {
        "index": index,
        "message": {"role": "assistant", "content": content, "refusal": None},
        "logprobs": None if entries is None else {"content": entries, "refusal": None},
        "finish_reason": "stop",
        **more,
    }


def body(*choices: dict[str, Any], **more: Any) -> bytes:
    """One reply as OpenAI writes it."""
    counted = sum(len((item.get("logprobs") or {}).get("content") or []) for item in choices)
    usage = {"prompt_tokens": 7, "completion_tokens": counted, "total_tokens": 7 + counted}
    reply = {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": list(choices), "usage": usage}
    return json.dumps({**reply, **more}, ensure_ascii=False).encode()


def drawn_body(seed: int, *, n: int = 3, length: int = 8, k: int = 5, rounded: bool = True) -> bytes:
    """Return a random reply with numbers and tokens as servers send them: ties, duplicates, sentinels, fragments."""
    draw = random.Random(seed)
    words = [" a", "b", "\n", " naïve", "空", "🎈", ",", " of", "x" * 9, '"', "\\", " 12"]
    choices = []
    for index in range(n):
        entries = []
        for _ in range(draw.randrange(length + 1)):
            numbers = sorted((-draw.expovariate(0.3) - 2.5 for _ in range(k)), reverse=True)
            numbers = [round(number * 8) / 8 for number in numbers] if rounded else numbers
            tokens = draw.sample(words, k)
            top = [entry(token, number) for token, number in zip(tokens, numbers, strict=True)]
            for damage in draw.sample(["nothing", "sentinel", "repeat", "unsorted", "fewer", "minus zero"], 2):
                if not top:
                    break
                if damage == "sentinel":
                    draw.choice(top)["logprob"] = draw.choice([-9999.0, -100.0, None, -3.4028234663852886e38])
                elif damage == "repeat":
                    top.append(dict(draw.choice(top)))
                elif damage == "unsorted":
                    draw.shuffle(top)
                elif damage == "fewer":
                    del top[draw.randrange(len(top)) :]
                elif damage == "minus zero" and draw.random() < 0.2:
                    top = [entry(tokens[0], -0.0)]
            word = draw.choice(words)
            entries.append(entry(word, draw.choice([-0.25, -3.0, -17.375, -9999.0]), top))
        text = "".join(item["token"] for item in entries)
        choices.append(choice(text, entries, index))
    return body(*choices)


def streamed(data: bytes, *, group: int = 1, end: bytes = b"\n\n") -> bytes:
    """Return the same reply as server-sent events, choices interleaved, ``group`` tokens in each delta."""
    reply = json.loads(data)
    chunks: list[dict[str, Any]] = []
    columns = []
    for item in reply["choices"]:
        index, entries = item["index"], (item["logprobs"] or {}).get("content")
        first = {"role": "assistant", "content": "", "refusal": None}
        choice_chunks = [
            {"index": index, "delta": first, "logprobs": {"content": [], "refusal": None}, "finish_reason": None}
        ]
        if entries is None:
            text = {"content": item["message"]["content"]}
            choice_chunks += [{"index": index, "delta": text, "logprobs": None, "finish_reason": None}]
        for start in range(0, len(entries or []), group):
            part = entries[start : start + group]
            text = {"content": "".join(item["token"] for item in part)}
            choice_chunks += [{"index": index, "delta": text, "logprobs": {"content": part}, "finish_reason": None}]
        choice_chunks += [{"index": index, "delta": {}, "logprobs": None, "finish_reason": item["finish_reason"]}]
        columns.append(choice_chunks)
    for number in range(max(map(len, columns))):
        chunks += [{"choices": [column[number]], "usage": None} for column in columns if number < len(column)]
    chunks.append({"choices": [], "usage": reply["usage"]})
    head = {"id": "c", "object": "chat.completion.chunk", "model": reply["model"]}
    events = [json.dumps({**head, **chunk}, ensure_ascii=False).encode() for chunk in chunks]
    return b"".join(b"data: " + event + end for event in [*events, b"[DONE]"])

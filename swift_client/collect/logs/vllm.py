"""vLLM's RequestOutput as a dict (``vllm/outputs.py``), as written by its offline ``LLM.generate()``.

Each position of ``logprobs`` maps token ids to ``{"logprob", "rank", "decoded_token"}``. Of a completion without them
the mean of ``cumulative_logprob`` over ``token_ids`` is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from swift_client.collect.logs.problems import Problems
from swift_client.collect.logs.records import Numbered


def map_vllm(records: Iterator[Numbered], problems: Problems) -> Iterator[Numbered]:
    """Yield each RequestOutput in the plain form."""
    for number, record in records:
        outputs = record.get("outputs")
        if not isinstance(outputs, list):
            problems.add("line", 'no list "outputs", as a RequestOutput has; left out', number)
            continue
        completions = [_map_output(output) for output in outputs if isinstance(output, dict)]
        prompt = record.get("prompt")
        yield (
            number,
            {
                "id": record.get("request_id") or f"line {number}",
                "prompt": prompt if isinstance(prompt, str) else None,
                "completions": completions,
            },
        )


def _map_output(output: dict[str, Any]) -> dict[str, Any]:
    fields = {"text": output.get("text"), "finish_reason": output.get("finish_reason")}
    ids, positions, total = output.get("token_ids"), output.get("logprobs"), output.get("cumulative_logprob")
    if not isinstance(ids, list) or not ids:
        return fields
    fields["n_tokens"] = len(ids)
    if isinstance(positions, list) and len(positions) == len(ids) and all(isinstance(item, dict) for item in positions):
        entries = [[_read_entry(key, entry) for key, entry in position.items()] for position in positions]
        chosen = [_read_entry(str(key), position.get(str(key))) for key, position in zip(ids, positions, strict=True)]
        return {
            **fields,
            "tokens": [text for text, _ in chosen],
            "logprobs": [logprob for _, logprob in chosen],
            "top_logprobs": entries,
        }
    if isinstance(total, (int, float)) and not isinstance(total, bool):
        fields["mean_logprob"] = total / len(ids)
    return fields


def _read_entry(key: str, entry: Any) -> tuple[str, Any]:
    """Return text and logprob of a listed token; without a detokenizer its text is its id."""
    if not isinstance(entry, dict):
        return f"token_id:{key}", entry
    text = entry.get("decoded_token")
    return text if isinstance(text, str) else f"token_id:{key}", entry.get("logprob")

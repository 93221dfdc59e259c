"""Exports of Langfuse: observations and traces, from the UI, its API or the blob storage export.

Source: langfuse.com/docs/api-and-data-platform, "Export from UI" and "Blob storage export field reference". Of
observations those of the type GENERATION are read, of traces without observations the input and output. Blob storage
writes names as ``trace_id``, the API as ``traceId``; input and output may be JSON written as text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from swift_client.collect.logs.chat import LABEL_NAMES, as_object, to_completions, to_label, to_prompt
from swift_client.collect.logs.problems import Problems
from swift_client.collect.logs.records import Numbered


def map_langfuse(records: Iterator[Numbered], problems: Problems) -> Iterator[Numbered]:
    """Yield each generation in the plain form; those of one prompt become one question."""
    for number, record in records:
        trace = as_object(record.get("trace")) or record
        observations = record.get("observations") or trace.get("observations")
        if isinstance(observations, list) and any(isinstance(item, dict) for item in observations):
            generations = [item for item in observations if isinstance(item, dict)]
        else:  # an observation, or a trace, whose observations are ids
            generations = [trace]
        # Scores are of a trace; with several generations they are not of any one of them.
        scores = _read_scores(record.get("scores") or trace.get("scores"))
        samples = [item for item in generations if item.get("type", "GENERATION") == "GENERATION"]
        if others := len(generations) - len(samples):
            problems.add("observation", "of another type than GENERATION; left out", number, count=others)
        if any(str(name).lower() not in LABEL_NAMES for name, _ in scores):
            problems.add("line", "has scores that are not named as labels; these scores are dropped", number)
        for item in samples:
            if item.get("input") is None and item.get("output") is None:
                problems.add("line", 'neither "input" nor "output"; left out', number)
                continue
            own = _read_scores(item.get("scores")) if item is not trace else scores
            label = to_label([*own, *(scores if len(samples) == 1 else [])])
            yield number, _map_generation(item, label, number)


def _map_generation(item: dict[str, Any], label: bool | None, number: int) -> dict[str, Any]:
    expected = item.get("expectedOutput", item.get("expected_output"))
    model = next((item[name] for name in ("model", "providedModelName", "provided_model_name") if item.get(name)), None)
    completions = to_completions(item.get("output"))
    return {
        "id": item.get("id") or f"line {number}",
        "prompt": to_prompt(item.get("input")),
        "answer": expected if isinstance(expected, (str, int, float)) else None,
        "model": model,
        "completions": [{**completion, "label": label} for completion in completions]
        if len(completions) == 1
        else completions,
    }


def _read_scores(scores: Any) -> list[tuple[Any, Any]]:
    """Return (name, value) of scores: a list of ``{"name", "value"}``, or an object of values by name."""
    if isinstance(scores, dict):
        return [(name, value[0] if isinstance(value, list) and value else value) for name, value in scores.items()]
    if not isinstance(scores, list):
        return []
    return [(score.get("name"), _read_value(score)) for score in scores if isinstance(score, dict)]


def _read_value(score: dict[str, Any]) -> Any:
    text = score.get("stringValue", score.get("string_value"))
    return {"True": 1, "False": 0}.get(text, score.get("value")) if isinstance(text, str) else score.get("value")

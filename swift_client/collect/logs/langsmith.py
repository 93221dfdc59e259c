"""Exports of LangSmith: runs as JSON, as its SDK's ``list_runs`` and ``run.dict()`` give them.

Source: the schema ``Run`` of reference.langchain.com. Runs of the type "llm" are read: inputs and outputs of LangChain
(``messages``, ``generations``) or as OpenAI's API has them; ``feedback_stats`` give the label.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from swift_client.collect.logs.chat import (
    LABEL_NAMES,
    as_object,
    to_completions,
    to_label,
    to_logprobs,
    to_prompt,
    to_text,
)
from swift_client.collect.logs.problems import Problems
from swift_client.collect.logs.records import Numbered


def map_langsmith(records: Iterator[Numbered], problems: Problems) -> Iterator[Numbered]:
    """Yield each run of a model in the plain form; those of one prompt become one question."""
    for number, record in records:
        if record.get("run_type") != "llm":
            problems.add("run", 'of another type than "llm"; left out', number)
            continue
        outputs = record.get("outputs")
        if not isinstance(outputs, dict) or not outputs:
            problems.add("run", "no outputs; left out", number)
            continue
        completions = _read_completions(outputs)
        stats = record.get("feedback_stats")
        scores = [
            (name, value.get("avg") if isinstance(value, dict) else value) for name, value in as_object(stats).items()
        ]
        label = to_label(scores)
        if any(str(name).lower() not in LABEL_NAMES for name, _ in scores):
            problems.add("run", "has feedback that is not named as a label; this feedback is dropped", number)
        if label is not None and len(completions) == 1:
            completions[0]["label"] = label
        elif label is not None:
            problems.add("label", "one for several completions of a run; dropped", number)
        yield (
            number,
            {
                "id": record.get("id") or f"line {number}",
                "prompt": to_prompt(record.get("inputs")),
                "model": _read_model(record.get("extra")),
                "completions": completions,
            },
        )


def _read_completions(outputs: dict[str, Any]) -> list[dict[str, Any]]:
    generations = outputs.get("generations")
    if isinstance(generations, list) and generations and isinstance(generations[0], list):
        generations = generations[0]  # of the first prompt of a batch
    if not isinstance(generations, list):
        return to_completions(outputs)
    return [_map_generation(item) for item in generations if isinstance(item, dict)]


def _map_generation(item: dict[str, Any]) -> dict[str, Any]:
    message = as_object(item.get("message"))
    fields = as_object(message.get("kwargs")) or message
    places = [item.get("generation_info"), fields.get("response_metadata")]
    facts = [place for place in places if isinstance(place, dict)]
    logprobs = next((place["logprobs"] for place in facts if place.get("logprobs")), None)
    return {
        "text": to_text(message if item.get("text") is None else item["text"]),
        "finish_reason": next((place["finish_reason"] for place in facts if place.get("finish_reason")), None),
        **to_logprobs(logprobs),
    }


def _read_model(extra: Any) -> Any:
    places = (as_object(as_object(extra).get(name)) for name in ("metadata", "invocation_params"))
    names = ("ls_model_name", "model", "model_name")
    return next((place[name] for place in places for name in names if isinstance(place.get(name), str)), None)

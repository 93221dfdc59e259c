"""Logs of OpenAI's evals (``evals/record.py``): events of one run as JSON lines, after a line with its ``spec``.

Read are ``sampling`` events, and the verdicts on them: ``match`` events, and the score of ``metrics`` events. A grader
samples too, with a prompt of its own; of a sample's prompts the first is the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from swift_client.collect.logs.chat import to_prompt
from swift_client.collect.logs.problems import Problems
from swift_client.collect.logs.records import Numbered

_OTHER_FIELDS = ("spec", "final_report")


@dataclass
class _EvalSample:
    """The events of one sample of an eval."""

    line: int
    prompt: Any = None
    completions: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[bool] = field(default_factory=list)
    expected: Any = None


def map_openai_evals(records: Iterator[Numbered], problems: Problems) -> Iterator[Numbered]:
    """Yield each sample in the plain form, once all events have been read: they come in any order."""
    samples: dict[str, _EvalSample] = {}
    model = None
    for number, record in records:
        data, identity, kind = record.get("data"), record.get("sample_id"), record.get("type")
        if isinstance(spec := record.get("spec"), dict):
            functions = spec.get("completion_fns")
            model = functions[0] if isinstance(functions, list) and len(functions) == 1 else None
        elif not isinstance(data, dict) or not isinstance(identity, (str, int)) or not isinstance(kind, str):
            if not any(name in record for name in _OTHER_FIELDS):
                problems.add("line", "not an event of an eval; left out", number)
        else:
            sample = samples.setdefault(str(identity), _EvalSample(number))
            _add_event(sample, kind, data, number, problems)
    for identity, sample in samples.items():
        if not sample.completions:
            problems.add("sample", "without a sampling event; left out", sample.line)
            continue
        if len(sample.verdicts) == len(sample.completions):
            for completion, verdict in zip(sample.completions, sample.verdicts, strict=True):
                completion["label"] = verdict
        elif sample.verdicts:
            problems.add("label", "not one per completion of its sample; dropped", sample.line)
        yield (
            sample.line,
            {
                "id": identity,
                "prompt": sample.prompt,
                "answer": sample.expected,
                "model": model,
                "completions": sample.completions,
            },
        )


def _add_event(sample: _EvalSample, kind: str, data: dict[str, Any], number: int, problems: Problems) -> None:
    if kind == "sampling":
        prompt = to_prompt(data.get("prompt"))
        if sample.completions and prompt != sample.prompt:
            problems.add(
                "sampling event", "another prompt than the sample's first, such as a grader's; left out", number
            )
            return
        sample.prompt = prompt
        texts = data.get("sampled")
        named = {"model": data["model"]} if isinstance(data.get("model"), str) else {}
        sample.completions += [{"text": text, **named} for text in (texts if isinstance(texts, list) else [texts])]
    elif kind == "match":
        if isinstance(data.get("correct"), bool):
            sample.verdicts.append(data["correct"])
        if sample.expected is None:
            sample.expected = data.get("expected")
    elif kind == "metrics":
        score = next((data[name] for name in ("score", "accuracy") if name in data), None)
        if score is not None and score in (0, 1):
            sample.verdicts.append(bool(score))
        elif score is not None:
            problems.add("label", "a score that is neither 0 nor 1; dropped", number)

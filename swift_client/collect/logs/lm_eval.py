"""Sample dumps of lm-evaluation-harness: ``samples_TASK_DATE.jsonl``, written by ``--log_samples``.

Read are ``doc_id``, ``target``, the first of ``arguments``, ``resps`` and, as the label, the first of ``metrics``.
There is a line for each filter of the task, with the same responses; the first filter's line is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from swift_client.collect.logs.chat import LABEL_NAMES, to_prompt
from swift_client.collect.logs.problems import Problems
from swift_client.collect.logs.records import Numbered


def map_lm_eval(records: Iterator[Numbered], problems: Problems) -> Iterator[Numbered]:
    """Yield each document in the plain form."""
    seen: set[bytes] = set()
    for number, record in records:
        if "doc_id" not in record:
            problems.add("line", 'no "doc_id", as a sample of lm-eval has; left out', number)
            continue
        prompt, settings = _read_request(record.get("arguments"))
        responses = record.get("resps") or record.get("filtered_resps")
        texts = _read_texts(responses)
        if isinstance(settings, str) or texts is None:
            problems.add("line", "lm-eval scored given texts (loglikelihood), so nothing was sampled; left out", number)
            continue
        key = json.dumps([record["doc_id"], prompt, texts])
        digest = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=16).digest()
        if digest in seen:
            problems.add("line", "the same responses under another filter of lm-eval; left out", number)
            continue
        seen.add(digest)
        label = _read_label(record)
        if label is not None and len(texts) != 1:
            problems.add("label", "lm-eval has one for all responses of a document; dropped", number)
            label = None
        target = record.get("target")
        yield (
            number,
            {
                "id": record["doc_id"],
                "prompt": prompt,
                "answer": target,
                "completions": [{"text": text, "label": label} for text in texts],
            },
        )


def _read_request(arguments: Any) -> tuple[Any, Any]:
    """Return the prompt and the second argument of the first request: settings, or the text that was scored."""
    if isinstance(arguments, dict):
        first = next(iter(arguments.values()), None)
        values = list(first.values()) if isinstance(first, dict) else []
    else:
        first = arguments[0] if isinstance(arguments, list) and arguments else None
        values = first if isinstance(first, list) else [first]
    prompt, settings, *_ = (*values, None, None)
    return to_prompt(prompt), settings


def _read_texts(responses: Any) -> list[str] | None:
    """Return the texts of the first request's responses; None if they are not texts."""
    if isinstance(responses, list) and responses and isinstance(responses[0], list):
        responses = responses[0]
    if not isinstance(responses, list) or not all(isinstance(text, str) for text in responses):
        return None
    return responses


def _read_label(record: dict[str, Any]) -> bool | None:
    metrics = record.get("metrics")
    names = [name for name in metrics if isinstance(name, str)] if isinstance(metrics, list) else []
    for name in [*names[:1], *sorted(LABEL_NAMES)]:
        value = record.get(name)
        if value is not None and not isinstance(value, str) and value in (0, 1):
            return bool(value)
    return None

"""Kinds of logs, each with the test of its shape and its mapper onto the plain form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from swift_client.collect.logs.langfuse import map_langfuse
from swift_client.collect.logs.langsmith import map_langsmith
from swift_client.collect.logs.lm_eval import map_lm_eval
from swift_client.collect.logs.openai_evals import map_openai_evals
from swift_client.collect.logs.problems import Problems
from swift_client.collect.logs.records import Numbered
from swift_client.collect.logs.vllm import map_vllm
from swift_client.errors import ConfigurationError

_MAX_LINES_TRIED = 1000  # lines that may precede the first one of a known shape


@dataclass(frozen=True, kw_only=True)
class LogKind:
    """One row of LOG_KINDS.

    Attributes:
        matches: True for a record of this kind.
        convert: Yields the records in the plain form, with the numbers of their lines.
        merges_by_prompt: True if a record is one call, so that calls with the same prompt are one question.
    """

    name: str
    matches: Callable[[dict[str, Any]], bool]
    convert: Callable[[Iterator[Numbered], Problems], Iterator[Numbered]]
    merges_by_prompt: bool = False


# In the order in which they are tried.
LOG_KINDS = (
    LogKind(
        name="plain",
        matches=lambda record: isinstance(record.get("completions"), list),
        convert=lambda records, problems: records,
    ),
    LogKind(
        name="lm-eval",
        matches=lambda record: "doc_id" in record and ("resps" in record or "filtered_resps" in record),
        convert=map_lm_eval,
    ),
    LogKind(
        name="openai-evals",
        matches=lambda record: isinstance(record.get("spec"), dict) or {"run_id", "event_id", "data"} <= record.keys(),
        convert=map_openai_evals,
    ),
    LogKind(
        name="langsmith", matches=lambda record: "run_type" in record, convert=map_langsmith, merges_by_prompt=True
    ),
    LogKind(
        name="vllm",
        matches=lambda record: (
            isinstance(record.get("outputs"), list) and ("request_id" in record or "prompt_token_ids" in record)
        ),
        convert=map_vllm,
        merges_by_prompt=True,
    ),
    LogKind(
        name="langfuse",
        matches=lambda record: (
            ("type" in record and ("traceId" in record or "trace_id" in record))
            or isinstance(record.get("observations"), list)
            or isinstance(record.get("trace"), dict)
            or ("output" in record and ("projectId" in record or "project_id" in record or "htmlPath" in record))
        ),
        convert=map_langfuse,
        merges_by_prompt=True,
    ),
)

_HINT = (
    'A line of the plain form is {"id": "q1", "prompt": "...", "answer": "...", "completions": [{"text": "..."}]}. '
    "Logs of lm-eval, OpenAI evals, Langfuse, LangSmith and vLLM are read too; --replies takes a provider's replies."
)


def detect_log(records: Iterator[Numbered], problems: Problems) -> tuple[LogKind, Iterator[Numbered]]:
    """Return the kind of a log, from its first record of a known shape, and all records again.

    Raises:
        ConfigurationError: no record has a known shape.
    """
    tried: list[Numbered] = []
    for number, record in records:
        tried.append((number, record))
        for kind in LOG_KINDS:
            if kind.matches(record):
                return kind, chain(tried, records)
        if len(tried) >= _MAX_LINES_TRIED:
            break
    reason = problems.first() if not tried else f"Line {tried[0][0]} is not of a known form."
    raise ConfigurationError(f"The samples cannot be read. {reason or 'The file is empty.'}", hint=_HINT)

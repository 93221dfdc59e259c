"""Samples from your own logs: the plain form, or the logs of a tool of ``logs/mappers.py``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from swift_client.adapters import Provider, resolve
from swift_client.collect.import_replies import open_new_store
from swift_client.collect.logs.completions import LoggedSample
from swift_client.collect.logs.mappers import detect_log
from swift_client.collect.logs.plain import LoggedQuestion, PlainParser
from swift_client.collect.logs.problems import Problems
from swift_client.collect.logs.records import read_records
from swift_client.collect.result import CollectResult, grade_by_answer
from swift_client.errors import ConfigurationError
from swift_client.reranker.config import Redact, resolve_policy
from swift_client.store import Meta, SampleStore
from swift_client.types import Usage

_MAX_MODELS_NAMED = 5
_LABELS_PER_WRITE = 10_000


def import_samples(
    samples: str | os.PathLike[str] | Iterable[Mapping[str, Any]],
    out: str | os.PathLike[str],
    *,
    provider: str | Provider = "openai",
    model: str | None = None,
    token_ids: bool = True,
    redact: Redact = None,
    keep: Literal["all", "arrays"] = "all",
) -> CollectResult:
    """Write the completions of your own logs to the new samples file ``out``, with their labels; no request is sent.

    The plain form is one JSON object per line: ``{"id", "prompt" | "messages", "answer" | "answers", "family"?,
    "completions": [{"text", "tokens"?, "logprobs"?, "top_logprobs"?, "mean_logprob"?, "label"?, "finish_reason"?,
    "model"?, "n_tokens"?}]}``. Sample dumps of lm-eval, logs of OpenAI's evals, exports of Langfuse and LangSmith, and
    RequestOutputs of vLLM are detected by their shape. Lines with the same id and prompt are one question.

    What cannot be read is left out, and the result's ``notes`` count and name it with the first lines.

    Args:
        samples: a file of JSON lines, or one JSON array, also gzipped; or the objects themselves.
        out: must not exist.
        provider: the provider of the model, which the file is stored under.
        model: the name of the model. If completions name their models, only those of this one are stored. Default: the
            name in the logs, if all have the same.
        token_ids: also store the identities of the alternatives.
        redact: as for ``collect``; so is keep.
        keep: "arrays" stores no text.

    Raises:
        ConfigurationError: the file cannot be read, holds no completion, or ``out`` exists.
    """
    row = resolve(provider, model or "any")[0]
    problems = Problems()
    kind, records = detect_log(read_records(samples, problems), problems)
    parser = PlainParser(problems, token_ids=token_ids)
    with open_new_store(Path(out), resolve_policy(redact, keep, "auto")) as store:
        writer = _SampleWriter(store=store, problems=problems, model=model, merges_by_prompt=kind.merges_by_prompt)
        for line, record in kind.convert(records, problems):
            if (question := parser.parse(record, line)) is not None:
                writer.add(question, line)
        writer.flush()
        if not writer.added:
            reason = f" {problems.first()}" if problems.first() else ""
            raise ConfigurationError(
                f"The samples contain no completion{f' of {model!r}' if model else ''}.{reason}",
                hint="Each question needs completions with a text.",
            )
        names = [name for name in writer.models if name is not None]
        source = model or (names[0] if len(names) == 1 else None)
        store.begin(Meta(provider=row.name, model=source, top_logprobs=writer.width, sampling={}))
    return CollectResult(
        path=str(out),
        questions=len(writer.digests),
        added=writer.added,
        samples=writer.added,
        wanted=writer.added,
        requests=0,
        usage=writer.usage,
        cost=None,
        notes=(*parser.notes(), *writer.notes()),
    )


@dataclass(kw_only=True)
class _SampleWriter:
    """Writer of parsed questions into a samples file, with the counts of the whole import."""

    store: SampleStore
    problems: Problems
    model: str | None
    merges_by_prompt: bool
    digests: dict[str, bytes | None] = field(default_factory=dict)  # digest of each question's prompt, by its id
    ids: dict[bytes, str] = field(default_factory=dict)  # id of the first question with a prompt, by its digest
    models: Counter[str | None] = field(default_factory=Counter)
    labels: dict[tuple[str, int], float | None] = field(default_factory=dict)
    added: int = 0
    labelled: int = 0
    without_logprobs: int = 0
    only_means: int = 0
    ungraded: int = 0
    width: int = 0
    usage: Usage = field(default_factory=Usage)

    def add(self, logged: LoggedQuestion, line: int) -> None:
        """Store a question's completions of the requested model."""
        question, digest = logged.question, logged.prompt_digest
        if self.merges_by_prompt and digest is not None:
            question = replace(question, id=self.ids.setdefault(digest, question.id))
        samples = [sample for sample in logged.samples if self.model in (None, sample.model) or sample.model is None]
        if others := len(logged.samples) - len(samples):
            self.problems.add("completion", f"of another model than {self.model!r}; left out", line, count=others)
        if not samples:
            if not logged.samples:
                self.problems.add("question", "no completions; left out", line)
            return
        if question.id not in self.digests:
            self.digests[question.id] = digest
        elif self.digests[question.id] != digest:
            self.problems.add("line", "its id is that of an earlier line with another prompt; left out", line)
            return
        self.store.add_questions([question])
        usage = Usage(completion_tokens=sum(sample.token_count for sample in samples), calls=1, estimated=True)
        indices = self.store.add_samples(
            question.id,
            [sample.completion for sample in samples],
            usage=usage,
            mean_logprobs=[sample.mean_logprob for sample in samples],
            grade=partial(grade_by_answer, question.answer),
        )
        self.usage += usage
        for index, sample in zip(indices, samples, strict=True):
            self._count(sample, has_answer=question.answer is not None)
            if sample.label is not None:
                self.labels[question.id, index] = sample.label
        if len(self.labels) >= _LABELS_PER_WRITE:
            self.flush()

    def flush(self) -> None:
        """Store the labels that have come since the last time."""
        self.store.set_labels(self.labels)
        self.labels.clear()

    def notes(self) -> tuple[str, ...]:
        """Return notes on models, and on completions that cannot be graded or scored."""
        notes = []
        names = [(name, count) for name, count in self.models.most_common() if name is not None]
        if len(names) > 1:
            shown = ", ".join(f"{name} ({count:,})" for name, count in names[:_MAX_MODELS_NAMED])
            more = f", and {len(names) - _MAX_MODELS_NAMED:,} more" if len(names) > _MAX_MODELS_NAMED else ""
            notes.append(
                f"The completions are of {len(names):,} models, which are stored as one: {shown}{more}. To import "
                "those of one model, give its name as model=."
            )
        if self.ungraded:
            notes.append(
                f"{self.ungraded:,} of {self.added:,} completions have neither a label nor an answer: they "
                "cannot be graded until `swift-client grade` adds one."
            )
        if self.without_logprobs:
            notes.append(
                f"{self.without_logprobs:,} of {self.added:,} completions have no token logprobs, {self.only_means:,} "
                "of them a mean: no head can be trained on these."
            )
        return tuple(notes)

    def _count(self, sample: LoggedSample, *, has_answer: bool) -> None:
        self.added += 1
        self.models[sample.model] += 1
        self.ungraded += sample.label is None and not has_answer
        self.without_logprobs += not sample.completion.tokens
        self.only_means += sample.mean_logprob is not None
        self.width = max(self.width, sample.completion.top_logprobs.shape[1])

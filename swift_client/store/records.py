"""Records of a samples file, and their form as rows. Every field that is read is checked: anyone may have written it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from types import NoneType
from typing import Any, get_args
from urllib.parse import urlsplit, urlunsplit

from swift_client.errors import ConfigurationError
from swift_client.store.packing import unpack
from swift_client.types import Completion, FinishReason, Message, Usage

_IGNORED_FIELDS = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""Fields of a request that say who asks, how fast and what is logged: no answer depends on them."""


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What all samples of a file have in common; one file never mixes models or ways to sample."""

    provider: str
    model: str | None
    top_logprobs: int
    """Alternatives a token that were asked for."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Fields that went to the provider: ``temperature``, ``max_tokens``, ..."""


@dataclass(frozen=True, kw_only=True)
class StoredQuestion:
    """A question as it was asked."""

    id: str
    messages: tuple[Message, ...]
    answer: str | None = None
    """The right answer, where it is known."""
    family: str | None = None
    """Kind of question, for tables by kind."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """One completion of a question; ``completion.index`` equals ``index``."""

    question_id: str
    index: int
    completion: Completion
    seed: int | None = None
    """What its call sent."""
    label: float | None = None
    """1 right, 0 wrong, None unknown."""
    cost: float | None = None
    """Even share of what its call cost, in the currency of the prices given; None where no prices were."""


@dataclass(frozen=True, kw_only=True)
class SampleTotals:
    """What a file's samples cost, calls that brought nothing left out."""

    samples: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    """None where the price of any call is unknown."""


@dataclass(frozen=True, kw_only=True)
class RequestKey:
    """A request, without how many completions it wants: those are numbered."""

    provider: str
    model: str | None
    base_url: str | None
    """Where it goes; credentials and query are left out of the key and of the file."""
    messages: tuple[Message, ...]
    top_logprobs: int | None
    """Alternatives a token that are asked for; None where no logprobs are."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Fields that go to the provider: ``temperature``, ``max_tokens``, ..."""
    seed: int | None = None
    """Completion i is asked for with ``seed`` + i."""
    head: str | None = None
    """Digest of the head whose projections a local model computes while it answers; None otherwise."""

    @cached_property
    def settings_json(self) -> str:
        """All but the messages, as JSON. Raises ConfigurationError for a field that JSON cannot hold."""
        return to_json(
            {
                "provider": self.provider,
                "model": self.model,
                "base_url": None if self.base_url is None else _strip_credentials(self.base_url),
                "top_logprobs": self.top_logprobs,
                "sampling": {name: value for name, value in self.sampling.items() if name not in _IGNORED_FIELDS},
                "seed": self.seed,
                "head": self.head,
            }
        )

    @cached_property
    def question(self) -> StoredQuestion:
        """The question, whose id is the key. Raises ConfigurationError for a field that JSON cannot hold."""
        parts = [json.loads(self.settings_json), json.loads(to_json(self.messages))]
        plain = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return StoredQuestion(id=f"asked-{hashlib.sha256(plain.encode()).hexdigest()[:32]}", messages=self.messages)


def _strip_credentials(url: str) -> str:
    """Return an address without user, password, query and fragment, any of which may be a key."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def meta_to_dict(meta: Meta) -> dict[str, Any]:
    """Return a file's facts as JSON has them."""
    return {**asdict(meta), "sampling": dict(meta.sampling)}


def to_json(value: object) -> str:
    """Return JSON. Raises ConfigurationError for what is none."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"A samples file cannot hold this: {error}.", hint="Give plain JSON values."
        ) from error


def parse_meta(text: str) -> Meta:
    """Read what :func:`facts_of` gave. Raises ValueError, TypeError or KeyError for anything else."""
    facts = json.loads(text)
    return Meta(
        provider=str(facts["provider"]),
        model=None if facts["model"] is None else str(facts["model"]),
        top_logprobs=int(facts["top_logprobs"]),
        sampling=dict(facts["sampling"]),
    )


def parse_source(text: str) -> tuple[str, str | None]:
    """Read provider and model. Raises ValueError, TypeError or KeyError where they are not there."""
    facts = json.loads(text)
    provider, model = (facts["provider"], facts["model"]) if isinstance(facts, Mapping) else (None, None)
    if not isinstance(provider, str) or not isinstance(model, (str, NoneType)):
        raise ValueError("a request names no model")
    return provider, model


def parse_question(row: Sequence[Any]) -> StoredQuestion:
    """Read (id, messages, answer, family). Raises ValueError for what is no question."""
    identity, messages, answer, family = row
    held = json.loads(messages)
    if not all(isinstance(value, (str, NoneType)) for value in row):
        raise ValueError(f"question {identity!r} has a field that is no text")
    if not isinstance(held, list) or not all(isinstance(message, dict) for message in held):
        raise ValueError(f"the messages of question {identity!r} are no list of messages")
    return StoredQuestion(id=identity, messages=tuple(held), answer=answer, family=family)


def parse_sample(question_id: str, row: Sequence[Any]) -> Sample:
    """Read (number, text, finish_reason, arrays, label, seed, cost). Raises ValueError for what is no sample."""
    number, text, finish_reason, arrays, label, seed, cost = row
    kinds = ((number, int), (text, str), (arrays, bytes), (seed, int | None), (cost, float | None))
    if not all(isinstance(value, kind) for value, kind in kinds) or number < 0:
        raise ValueError(f"a sample of question {question_id!r} has a field of another type")
    if finish_reason not in get_args(FinishReason) or label not in (None, 0, 1):
        raise ValueError(f"sample {question_id!r}, {number} ended {finish_reason!r} and has the label {label!r}")
    try:
        completion = unpack(arrays, text=text, index=number, finish_reason=finish_reason)
    except ValueError as error:
        raise ValueError(f"{error} (question {question_id}, index {number})") from error
    return Sample(
        question_id=question_id,
        index=number,
        completion=completion,
        seed=seed,
        label=label,
        cost=cost,
    )

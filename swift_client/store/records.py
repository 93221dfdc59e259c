"""Records of a samples file, and their form as rows. Fields are checked when read: anyone may have written them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from types import NoneType
from typing import Any, get_args
from urllib.parse import urlsplit, urlunsplit

from swift_client.errors import ConfigurationError
from swift_client.store.packing import unpack, unpack_mean
from swift_client.types import Completion, FinishReason, Message, Usage

# Request fields about the user, speed and logging, which no answer depends on.
_IGNORED_FIELDS = frozenset(
    {"metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier", "store", "user"}
)
NO_USER = b""
"""Digest of an unknown user."""


@dataclass(frozen=True, kw_only=True)
class Meta:
    """Settings that all samples of a file share; a file never mixes models or sampling parameters.

    Attributes:
        top_logprobs: Requested alternatives per token.
        sampling: Fields sent to the provider: ``temperature``, ``max_tokens``, ...
    """

    provider: str
    model: str | None
    top_logprobs: int
    sampling: Mapping[str, Any] = field(default_factory=dict)


# The right answer of a question, or several, each of which is right.
ReferenceAnswer = str | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StoredQuestion:
    """A question as it was sent.

    Attributes:
        answer: The reference answer, if known; a tuple of answers if any of several is right.
        family: Kind of question, for tables by kind.
    """

    id: str
    messages: tuple[Message, ...]
    answer: ReferenceAnswer | None = None
    family: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """One completion of a question; ``completion.index`` equals ``index``.

    Attributes:
        seed: Seed of its request.
        label: 1 right, 0 wrong, None unknown.
        cost: Equal share of the cost of its request, in the currency of the prices; None without prices.
        mean_logprob: Mean logprob of its tokens, nats, if their own logprobs are unknown: of imported logs.
        verifier_scores: Judgement of its answer, 0..1 (1 is right), by the identity of the verifier.
    """

    question_id: str
    index: int
    completion: Completion
    seed: int | None = None
    label: float | None = None
    cost: float | None = None
    mean_logprob: float | None = None
    verifier_scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoredVerdict:
    """One verdict of a judge, and what it cost.

    Attributes:
        value: 0..1; 1 is right or best; of a pair: 1 means that the first answer is better.
        confidence: Probability of all options together, 0..1.
        from_text: Whether it was read as text, without logprobs.
        cost: In the currency of the prices; None if unknown.
    """

    value: float
    confidence: float
    from_text: bool
    prompt_tokens: int
    completion_tokens: int
    cost: float | None


@dataclass(frozen=True, kw_only=True)
class SampleTotals:
    """Totals of a file's samples; requests that returned nothing do not count."""

    samples: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None  # None if the cost of any request is unknown


@dataclass(frozen=True, kw_only=True)
class RequestKey:
    """The identity of a request; the number of completions does not belong to it."""

    provider: str
    model: str | None
    base_url: str | None  # the server; credentials and query are kept out of the key and the file
    messages: tuple[Message, ...]
    top_logprobs: int | None  # requested alternatives per token; None without logprobs
    # Fields sent to the provider: ``temperature``, ``max_tokens``, ...
    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None  # completion i is requested with ``seed`` + i
    # Digest of the head whose projections a local model computes while it generates; None otherwise.
    head: str | None = None
    client_key: str | None = None  # name of the service's key that asked; not a part of the identity

    @property
    def user_digests(self) -> tuple[bytes, ...]:
        """Digests of who asked; see ``user_digests()``."""
        return user_digests(self.sampling, self.client_key)

    @cached_property
    def settings_json(self) -> str:
        """All fields but the messages, as JSON. Raises ConfigurationError for a field that is not JSON."""
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
        """The question, whose id is a hash of all fields. Raises ConfigurationError for a field that is not JSON."""
        parts = [json.loads(self.settings_json), json.loads(to_json(self.messages))]
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        return StoredQuestion(id=f"asked-{digest[:32]}", messages=self.messages)


def user_digests(sampling: Mapping[str, Any], client_key: str | None = None) -> tuple[bytes, ...]:
    """Return the digests of who asked: of the end user that the fields of a request name, and of a service's key.

    The names themselves are not stored. End users are ``user``, ``safety_identifier`` and ``metadata.user_id``.
    """
    metadata = sampling.get("metadata")
    named = [sampling.get("user"), sampling.get("safety_identifier")]
    named.append(metadata.get("user_id") if isinstance(metadata, Mapping) else None)
    digests = {user_digest(name) for name in named if isinstance(name, str) and name}
    return tuple(sorted(digests)) + (() if client_key is None else (key_digest(client_key),))


def user_digest(name: str) -> bytes:
    """Return the 16 bytes that stand for an end user."""
    return _digest("user", name)


def key_digest(name: str) -> bytes:
    """Return the 16 bytes that stand for a key of the service."""
    return _digest("key", name)


def _digest(kind: str, name: str) -> bytes:
    return hashlib.sha256(f"swift-client {kind} {name}".encode("utf-8", "surrogatepass")).digest()[:16]


def _strip_credentials(url: str) -> str:
    """Return the URL without user, password, query and fragment, any of which may be a key."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def meta_to_dict(meta: Meta) -> dict[str, Any]:
    """Return the settings of a file as JSON values."""
    return {**asdict(meta), "sampling": dict(meta.sampling)}


def to_json(value: object) -> str:
    """Return JSON. Raises ConfigurationError for values that are not JSON."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"A samples file cannot store this: {error}.", hint="Give plain JSON values."
        ) from error


def parse_meta(text: str) -> Meta:
    """Parse the JSON of ``meta_to_dict()``. Raises ValueError, TypeError or KeyError for anything else."""
    facts = json.loads(text)
    return Meta(
        provider=str(facts["provider"]),
        model=None if facts["model"] is None else str(facts["model"]),
        top_logprobs=int(facts["top_logprobs"]),
        sampling=dict(facts["sampling"]),
    )


def parse_source(text: str) -> tuple[str, str | None]:
    """Parse provider and model. Raises ValueError, TypeError or KeyError if they are missing."""
    facts = json.loads(text)
    provider, model = (facts["provider"], facts["model"]) if isinstance(facts, Mapping) else (None, None)
    if not isinstance(provider, str) or not isinstance(model, (str, NoneType)):
        raise ValueError("a request names no model")
    return provider, model


def parse_question(row: Sequence[Any]) -> StoredQuestion:
    """Parse (id, messages, answer, family). Raises ValueError for an invalid row."""
    question_id, messages_json, answer, family = row
    messages = json.loads(messages_json)
    if isinstance(answer, bytes):
        answer = _parse_answers(answer)
    if not all(isinstance(value, (str, NoneType)) for value in (question_id, messages_json, family)) or not isinstance(
        answer, (str, tuple, NoneType)
    ):
        raise ValueError(f"question {question_id!r} has a field that is not text")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ValueError(f"the messages of question {question_id!r} are not a list of messages")
    return StoredQuestion(id=question_id, messages=tuple(messages), answer=answer, family=family)


def pack_answer(answer: ReferenceAnswer | None) -> str | bytes | None:
    """Return the answer as stored: several as a JSON list in UTF-8, which as a blob differs from an answer in JSON."""
    if answer is None or isinstance(answer, str):
        return answer
    return json.dumps(answer, ensure_ascii=False).encode() if answer else None


def _parse_answers(blob: bytes) -> tuple[str, ...]:
    answers = json.loads(blob)
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
        raise ValueError("the accepted answers of a question are not a list of texts")
    return tuple(answers)


def parse_verifier_scores(question_id: str, rows: Iterable[Sequence[Any]]) -> dict[int, dict[str, float]]:
    """Parse rows (number, verifier, score) into scores by number and verifier. Raises ValueError for an invalid row."""
    scores: dict[int, dict[str, float]] = {}
    for number, verifier, score in rows:
        if not isinstance(number, int) or not isinstance(verifier, str) or not is_share(score):
            raise ValueError(f"question {question_id!r} has a judgement that is not from 0 to 1")
        scores.setdefault(number, {})[verifier] = float(score)
    return scores


def parse_verdict(row: Sequence[Any]) -> StoredVerdict:
    """Parse (value, confidence, from_text, prompt_tokens, completion_tokens, cost). Raises ValueError otherwise."""
    value, confidence, from_text, prompt_tokens, completion_tokens, cost = row
    counts = (from_text, prompt_tokens, completion_tokens)
    if not (is_share(value) and is_share(confidence) and isinstance(cost, float | None)) or not all(
        isinstance(count, int) and count >= 0 for count in counts
    ):
        raise ValueError("a verdict has a field of another type or outside its range")
    return StoredVerdict(
        value=float(value),
        confidence=float(confidence),
        from_text=bool(from_text),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost=cost,
    )


def is_share(value: object) -> bool:
    """Return True for a number from 0 to 1."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def parse_sample(question_id: str, row: Sequence[Any], verifier_scores: Mapping[str, float]) -> Sample:
    """Parse (number, text, finish_reason, arrays, label, seed, cost). Raises ValueError for an invalid row."""
    number, text, finish_reason, arrays, label, seed, cost = row
    types = ((number, int), (text, str), (arrays, bytes), (seed, int | None), (cost, float | None))
    if not all(isinstance(value, expected) for value, expected in types) or number < 0:
        raise ValueError(f"a sample of question {question_id!r} has a field of another type")
    if finish_reason not in get_args(FinishReason) or label not in (None, 0, 1):
        raise ValueError(f"sample {question_id!r}, {number} has finish reason {finish_reason!r} and label {label!r}")
    try:
        completion = unpack(arrays, text=text, index=number, finish_reason=finish_reason)
        mean_logprob = None if completion.tokens else unpack_mean(arrays)
    except ValueError as error:
        raise ValueError(f"{error} (question {question_id}, index {number})") from error
    return Sample(
        question_id=question_id,
        index=number,
        completion=completion,
        seed=seed,
        label=label,
        cost=cost,
        mean_logprob=mean_logprob,
        verifier_scores=verifier_scores,
    )

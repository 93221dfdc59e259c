"""Completions of the plain form: ``{text, tokens?, logprobs?, top_logprobs?, mean_logprob?, label?, ...}``.

``tokens`` are texts or token ids. An entry of ``top_logprobs`` is ``{token: logprob}``, or a list of logprobs, of
``[token, logprob]`` or of ``{"token", "logprob"}``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swift_client.adapters.codecs.reasoning import split_thinking
from swift_client.adapters.codecs.reply import normalize_finish_reason
from swift_client.adapters.codecs.tokens import answer_tokens, clean_logprob_fields
from swift_client.collect.logs.problems import Problems
from swift_client.dataset.questions import parse_text
from swift_client.errors import ConfigurationError
from swift_client.logprobs.clean import ROUNDING_TOLERANCE, SENTINEL, UnusableLogprobs
from swift_client.store.packing import MAX_TOKENS
from swift_client.types import MAX_TOKEN_COUNT, Completion

COMPLETION_KEYS = frozenset(
    {"text", "tokens", "logprobs", "top_logprobs", "mean_logprob", "label", "finish_reason", "model", "n_tokens"}
)
MAX_LISTED = 1 << 24  # places of a completion's lists of alternatives: tokens × longest list
_MAX_MODEL_CHARS = 1000

# A listed alternative: its text, if known, and its logprob.
_Alternative = tuple[str | None, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class LoggedSample:
    """One completion of a log.

    Attributes:
        label: 1 right, 0 wrong, None unknown.
        mean_logprob: Mean logprob of its tokens, nats, if the log has no logprob per token.
        model: Name of its model, if the log gives one.
        token_count: Number of its tokens; 0 if unknown.
    """

    completion: Completion
    label: float | None = None
    mean_logprob: float | None = None
    model: str | None = None
    token_count: int = 0


def parse_completion(value: Any, line: int, problems: Problems, *, token_ids: bool) -> LoggedSample | None:
    """Return a completion of the plain form; None if it has no text, which is counted in ``problems``."""
    if not isinstance(value, dict):
        problems.add("completion", "not a JSON object; left out", line)
        return None
    text = _parse_string(value.get("text"))
    if text is None and (text := _parse_string(value.get("parsed"))) is not None:
        problems.add("completion", 'no "text"; the answer in "parsed" is stored as the text', line)
    if text is None:
        problems.add("completion", 'no "text"; left out', line)
        return None
    thinking, answer = split_thinking(text)
    try:
        arrays = _parse_logprobs(value, answer, line, problems, token_ids=token_ids)
    except UnusableLogprobs as error:
        problems.add("completion", f"{error}; stored without logprobs", line)
        arrays = {}
    reason = value.get("finish_reason")
    completion = Completion(
        text=answer,
        finish_reason=normalize_finish_reason(reason if isinstance(reason, str) else None),
        thinking=Completion(text=thinking) if thinking else None,
        **arrays,
    )
    model = value.get("model")
    return LoggedSample(
        completion=completion,
        label=parse_label(value.get("label"), line, problems),
        mean_logprob=None if completion.tokens else _parse_mean(value.get("mean_logprob"), line, problems),
        model=model[:_MAX_MODEL_CHARS] if isinstance(model, str) else None,
        token_count=len(completion.tokens) or _parse_count(value.get("n_tokens")),
    )


def _parse_string(value: Any) -> str | None:
    try:
        return parse_text("text", value)
    except (ConfigurationError, ValueError):  # ValueError: a number of too many digits
        return None


def parse_label(value: Any, line: int, problems: Problems) -> float | None:
    """Return 1 for right, 0 for wrong, None for unknown; anything else is counted in ``problems``."""
    if value is None or value in (0, 1) or (isinstance(value, float) and math.isnan(value)):
        return None if value is None or value != value else float(value)
    problems.add("label", "neither 0, 1, true nor false; dropped", line)
    return None


def _parse_mean(value: Any, line: int, problems: Problems) -> float | None:
    if value is None:
        return None
    (mean,) = _parse_numbers([value]) or (math.nan,)
    if SENTINEL < mean <= ROUNDING_TOLERANCE:
        return min(mean, 0.0)
    problems.add("completion", '"mean_logprob" is not a logprob; dropped', line)
    return None


def _parse_count(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= MAX_TOKEN_COUNT else 0


def _parse_numbers(values: Sequence[Any]) -> list[float] | None:
    """Return floats, NaN for null; None if a value is not a number."""
    numbers = []
    for value in values:
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            return None
        try:
            numbers.append(math.nan if value is None else float(value))
        except OverflowError:  # an int that no float holds
            return None
    return numbers


def _parse_logprobs(
    value: dict[str, Any], answer: str, line: int, problems: Problems, *, token_ids: bool
) -> dict[str, Any]:
    """Return the arrays of a Completion. Raises UnusableLogprobs with the reason if the logprobs cannot be used."""
    chosen, tokens = value.get("logprobs"), value.get("tokens")
    if not isinstance(chosen, list) or not chosen:
        if chosen or tokens:
            missing = "no list of logprobs" if tokens else '"logprobs" is not a list'
            problems.add("completion", f"{missing}; stored without tokens", line)
        return {}
    numbers = _parse_numbers(chosen)
    if numbers is None:
        raise UnusableLogprobs('"logprobs" contains something else than numbers')
    if len(numbers) > MAX_TOKENS:
        raise UnusableLogprobs(f"more than {MAX_TOKENS:,} tokens")
    texts = _parse_tokens(tokens, len(numbers), line, problems)
    lists = _parse_lists(value.get("top_logprobs"), len(numbers), line, problems)
    span = slice(0, len(numbers))
    if texts is not None:
        pieces = texts
        start, texts, note = answer_tokens(texts, answer, lambda: [_encode(piece) for piece in pieces])
        span = slice(start, start + len(texts))
        if note:
            problems.add("completion", "the tokens do not spell the text; stored as they are", line)
    listed = [alternative for entry in lists[span] for alternative in entry]
    words = [word for word, _ in listed]
    values = _parse_numbers([number for _, number in listed])
    if values is None:
        raise UnusableLogprobs('"top_logprobs" contains something else than numbers')
    has_words = bool(words) and all(word is not None for word in words)
    # Alternatives without texts all differ.
    names = [word if word is not None else f"#{position}" for position, word in enumerate(words)]
    arrays = clean_logprob_fields(
        numbers[span],
        values,
        [len(entry) for entry in lists[span]],
        texts=lambda: names,
        token_bytes=lambda: [_encode(name) for name in names],
        token_ids=token_ids and has_words,
    )
    return {"tokens": tuple(texts if texts is not None else [""] * len(numbers)), **arrays}


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _parse_tokens(tokens: Any, count: int, line: int, problems: Problems) -> list[str] | None:
    """Return the texts of the tokens; None if only their number is known, or their ids."""
    if tokens is None:
        problems.add("completion", "logprobs without tokens; stored without the texts of the tokens", line)
        return None
    if not isinstance(tokens, list) or len(tokens) != count:
        raise UnusableLogprobs('"tokens" and "logprobs" differ in length')
    if all(isinstance(token, str) for token in tokens):
        return tokens
    if all(type(token) is int for token in tokens):
        problems.add("completion", "token ids in place of texts; stored without the texts of the tokens", line)
        return None
    raise UnusableLogprobs('"tokens" contains something else than texts')


def _parse_lists(lists: Any, count: int, line: int, problems: Problems) -> list[list[_Alternative]]:
    """Return the alternatives of each token; empty lists, and a note, if they cannot be used."""
    nothing: list[list[_Alternative]] = [[] for _ in range(count)]
    if not lists:
        return nothing
    entries = [_parse_list(entry) for entry in lists] if isinstance(lists, list) else []
    alternatives = [entry for entry in entries if entry is not None]
    if len(entries) != count or len(alternatives) != count:
        problems.add("completion", '"top_logprobs" is not one list per token; dropped', line)
        return nothing
    if count * max(map(len, alternatives)) > MAX_LISTED:
        problems.add("completion", f'more than {MAX_LISTED:,} places in "top_logprobs"; dropped', line)
        return nothing
    return alternatives


def _parse_list(entry: Any) -> list[_Alternative] | None:
    if entry is None:
        return []
    if isinstance(entry, dict):
        return list(entry.items())
    if not isinstance(entry, list):
        return None
    alternatives: list[_Alternative] = []
    for item in entry:
        match item:
            case {"token": str(token), "logprob": number} | [str(token), number]:
                alternatives.append((token, number))
            case None | int() | float():
                alternatives.append((None, item))
            case _:
                return None
    return alternatives

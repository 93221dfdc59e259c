"""Agreement and logprobs of an object's top-level members."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from swift_client.answers.json import Span, canonicalize, decode, find_json, member_spans
from swift_client.structured.schema import ParsedAnswer
from swift_client.types import Completion, Field

_JSON_ERRORS = (ValueError, RecursionError)
_REPLACEMENT_CHAR = "\N{REPLACEMENT CHARACTER}"


def field_support(parsed_answers: Sequence[ParsedAnswer | None], weights: Sequence[float]) -> list[float]:
    """Return for each of N objects the mean, over all members of any object, of the weights that agree with it.

    A missing member is a value too, shared by all objects without it. Objects without members have their own weight.
    """
    names = sorted({name for answer in parsed_answers if answer is not None for name in answer.canonical_members})
    if not names:
        return list(weights)
    votes: dict[tuple[str, str | None], list[float]] = {}
    for answer, weight in zip(parsed_answers, weights, strict=True):
        if answer is not None:
            for name in names:
                votes.setdefault((name, answer.canonical_members.get(name)), []).append(weight)
    totals = {member: math.fsum(member_weights) for member, member_weights in votes.items()}
    return [
        0.0
        if answer is None
        else math.fsum(totals[name, answer.canonical_members.get(name)] for name in names) / len(names)
        for answer in parsed_answers
    ]


def describe_fields(
    completions: Sequence[Completion],
    parsed_answers: Sequence[ParsedAnswer | None],
    weights: Sequence[float],
    winner: int,
) -> Mapping[str, Field]:
    """Describe the members of the winner's object; empty if it has none.

    A member's agreement is the share 0..1 of all weights whose object has the same value. An object without the member
    agrees with no value of it.
    """
    chosen = parsed_answers[winner]
    if chosen is None:
        return {}
    logprobs = _field_logprobs(completions[winner], chosen)
    votes = [(answer, weight) for answer, weight in zip(parsed_answers, weights, strict=True) if answer is not None]
    total = math.fsum(weight for _, weight in votes)
    fields = {}
    for name, value in chosen.members.items():
        canonical = chosen.canonical_members[name]
        agreement = math.fsum(weight for answer, weight in votes if answer.canonical_members.get(name) == canonical)
        fields[name] = Field(value=value, logprob=logprobs.get(name), agreement=agreement / total if total else 0.0)
    return fields


def _field_logprobs(completion: Completion, answer: ParsedAnswer) -> dict[str, float]:
    """Sum the logprobs of the tokens that hold a character of each member's value.

    The object is parsed again from the tokens' own text, which may have a model's markup around a call, and broken
    characters. So the place of every token is known exactly.
    """
    # Where each member's value stands, in characters of the tokens' text and of the completion's.
    token_text = "".join(completion.tokens)
    token_spans = _find_spans(token_text, is_tool_call=answer.is_tool_call)
    text_spans = _find_spans(completion.text, is_tool_call=answer.is_tool_call)
    token_ends = np.fromiter(accumulate(map(len, completion.tokens)), np.int64, len(completion.tokens))
    logprobs: dict[str, float] = {}
    for name, aliases in answer.aliases.items():
        key = next((alias for alias in aliases if alias in token_spans and alias in text_spans), None)
        if key is None:
            continue
        # From characters to tokens: the first that ends after the value's start, up to the first that covers its end.
        start, end = token_spans[key]
        if not _is_same_json(token_text[start:end], completion.text[slice(*text_spans[key])]):
            continue
        first = int(np.searchsorted(token_ends, start, side="right"))
        stop = int(np.searchsorted(token_ends, end, side="left")) + 1
        if not completion.censored[first:stop].any():
            logprobs[name] = float(completion.logprobs[first:stop].sum(dtype=np.float64))
    return logprobs


def _find_spans(text: str, *, is_tool_call: bool) -> dict[str, Span]:
    """Find an object's members in a text; of a tool call, or a list of one, the members of its arguments."""
    try:
        span = find_json(text)
        if span is None:
            return {}
        start = span[0]
        if is_tool_call and text[start] == "[":  # a list of one call
            start = text.index("{", start)
        spans = member_spans(text, start)
        arguments = (spans.get("arguments") or spans.get("parameters")) if is_tool_call else None
        return member_spans(text, arguments[0]) if arguments else spans
    except _JSON_ERRORS:
        return {}


def _is_same_json(token_json: str, text_json: str) -> bool:
    """Return whether two JSON texts have the same value, or whether broken characters hide that."""
    if token_json == text_json or _REPLACEMENT_CHAR in token_json:
        return True
    try:
        return canonicalize(decode(token_json)) == canonicalize(decode(text_json))
    except _JSON_ERRORS:
        return False

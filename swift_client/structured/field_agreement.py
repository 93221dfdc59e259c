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


def field_shares(
    parsed_answers: Sequence[ParsedAnswer | None], weights: Sequence[float], index: int
) -> dict[str, float]:
    """Return for each member of object ``at`` the share 0..1 of all N weights whose object has the same value there.

    An object that leaves a member out agrees with no value of it.
    """
    mine = parsed_answers[index]
    if mine is None:
        return {}
    voted = [(fit, weight) for fit, weight in zip(parsed_answers, weights, strict=True) if fit is not None]
    total = math.fsum(weight for _, weight in voted)
    return {
        name: math.fsum(weight for fit, weight in voted if fit.canonical_members.get(name) == key) / total
        if total
        else 0.0
        for name, key in mine.canonical_members.items()
    }


def field_support(parsed_answers: Sequence[ParsedAnswer | None], weights: Sequence[float]) -> list[float]:
    """Return for each of N objects the mean, over all members that any object has, of the weights that agree with it.

    A member left out is a value too, shared by all that leave it out. Objects without members have their own weight.
    """
    names = sorted({name for fit in parsed_answers if fit is not None for name in fit.canonical_members})
    if not names:
        return list(weights)
    sums: dict[tuple[str, str | None], list[float]] = {}
    for fit, weight in zip(parsed_answers, weights, strict=True):
        if fit is not None:
            for name in names:
                sums.setdefault((name, fit.canonical_members.get(name)), []).append(weight)
    tallies = {key: math.fsum(each) for key, each in sums.items()}
    return [
        0.0 if fit is None else math.fsum(tallies[name, fit.canonical_members.get(name)] for name in names) / len(names)
        for fit in parsed_answers
    ]


def describe_fields(
    completions: Sequence[Completion],
    parsed_answers: Sequence[ParsedAnswer | None],
    weights: Sequence[float],
    winner: int,
) -> Mapping[str, Field]:
    """Describe the members of the winner's object; empty where it has none."""
    fit = parsed_answers[winner]
    if fit is None:
        return {}
    logprobs = _field_logprobs(completions[winner], fit)
    agreement = field_shares(parsed_answers, weights, winner)
    return {
        name: Field(value=value, logprob=logprobs.get(name), agreement=agreement[name])
        for name, value in fit.members.items()
    }


def _field_logprobs(completion: Completion, parsed_answer: ParsedAnswer) -> dict[str, float]:
    """Sum the logprobs of the tokens that hold a character of each member's value.

    The object is read once more from the tokens' own text, where it may stand in a model's markup of a call, and where
    a character of several tokens is broken; so every token's place is known without a guess.
    """
    spelled = "".join(completion.tokens)
    spans = _find_spans(spelled, is_tool_call=parsed_answer.is_tool_call)
    said = _find_spans(completion.text, is_tool_call=parsed_answer.is_tool_call)
    ends = np.fromiter(accumulate(map(len, completion.tokens)), np.int64, len(completion.tokens))
    found: dict[str, float] = {}
    for name, spellings in parsed_answer.aliases.items():
        key = next((each for each in spellings if each in spans and each in said), None)
        if key is None or not _is_same_json(spelled[slice(*spans[key])], completion.text[slice(*said[key])]):
            continue
        first = int(np.searchsorted(ends, spans[key][0], side="right"))
        after = int(np.searchsorted(ends, spans[key][1], side="left")) + 1
        if not completion.censored[first:after].any():
            found[name] = float(completion.logprobs[first:after].sum(dtype=np.float64))
    return found


def _find_spans(text: str, *, is_tool_call: bool) -> dict[str, Span]:
    """Find an object's members in a text; those of its arguments where it is a call, or a list of one."""
    try:
        whole = find_json(text)
        if whole is None:
            return {}
        start = whole[0]
        if is_tool_call and text[start] == "[":
            start = text.index("{", start)
        found = member_spans(text, start)
        inner = next((found[name] for name in ("arguments", "parameters") if is_tool_call and name in found), None)
        return member_spans(text, inner[0]) if inner else found
    except _JSON_ERRORS:
        return {}


def _is_same_json(token_json: str, text_json: str) -> bool:
    """Whether two JSON texts say the same, as far as broken characters let one see."""
    if token_json == text_json or _REPLACEMENT_CHAR in token_json:
        return True
    try:
        return canonicalize(decode(token_json)) == canonicalize(decode(text_json))
    except _JSON_ERRORS:
        return False

"""Agreement and logprobs of an object's top-level members."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from swift_client.answers.json import Span, canonical, decode, find_json, members
from swift_client.structured.schema import Fit
from swift_client.types import Completion, Field

_UNREADABLE = (ValueError, RecursionError)
_BROKEN = "\N{REPLACEMENT CHARACTER}"


def shares(fits: Sequence[Fit | None], weights: Sequence[float], at: int) -> dict[str, float]:
    """Return for each member of object ``at`` the share 0..1 of all N weights whose object has the same value there.

    An object that leaves a member out agrees with no value of it.
    """
    mine = fits[at]
    if mine is None:
        return {}
    voted = [(fit, weight) for fit, weight in zip(fits, weights, strict=True) if fit is not None]
    total = math.fsum(weight for _, weight in voted)
    return {
        name: math.fsum(weight for fit, weight in voted if fit.keys.get(name) == key) / total if total else 0.0
        for name, key in mine.keys.items()
    }


def support(fits: Sequence[Fit | None], weights: Sequence[float]) -> list[float]:
    """Return for each of N objects the mean, over all members that any object has, of the weights that agree with it.

    A member left out is a value too, shared by all that leave it out. Objects without members have their own weight.
    """
    names = sorted({name for fit in fits if fit is not None for name in fit.keys})
    if not names:
        return list(weights)
    sums: dict[tuple[str, str | None], list[float]] = {}
    for fit, weight in zip(fits, weights, strict=True):
        if fit is not None:
            for name in names:
                sums.setdefault((name, fit.keys.get(name)), []).append(weight)
    tallies = {key: math.fsum(each) for key, each in sums.items()}
    return [
        0.0 if fit is None else math.fsum(tallies[name, fit.keys.get(name)] for name in names) / len(names)
        for fit in fits
    ]


def fields_of(
    completions: Sequence[Completion], fits: Sequence[Fit | None], weights: Sequence[float], winner: int
) -> Mapping[str, Field]:
    """Describe the members of the winner's object; empty where it has none."""
    fit = fits[winner]
    if fit is None:
        return {}
    logprobs = _logprobs(completions[winner], fit)
    agreement = shares(fits, weights, winner)
    return {
        name: Field(value=value, logprob=logprobs.get(name), agreement=agreement[name])
        for name, value in fit.members.items()
    }


def _logprobs(completion: Completion, fit: Fit) -> dict[str, float]:
    """Sum the logprobs of the tokens that hold a character of each member's value.

    The object is read once more from the tokens' own text, where it may stand in a model's markup of a call, and where
    a character of several tokens is broken; so every token's place is known without a guess.
    """
    spelled = "".join(completion.tokens)
    spans = _spans(spelled, called=fit.called)
    said = _spans(completion.text, called=fit.called)
    ends = np.fromiter(accumulate(map(len, completion.tokens)), np.int64, len(completion.tokens))
    found: dict[str, float] = {}
    for name, spellings in fit.spellings.items():
        key = next((each for each in spellings if each in spans and each in said), None)
        if key is None or not _same(spelled[slice(*spans[key])], completion.text[slice(*said[key])]):
            continue
        first = int(np.searchsorted(ends, spans[key][0], side="right"))
        after = int(np.searchsorted(ends, spans[key][1], side="left")) + 1
        if not completion.censored[first:after].any():
            found[name] = float(completion.logprobs[first:after].sum(dtype=np.float64))
    return found


def _spans(text: str, *, called: bool) -> dict[str, Span]:
    """Find an object's members in a text; those of its arguments where it is a call, or a list of one."""
    try:
        whole = find_json(text)
        if whole is None:
            return {}
        start = whole[0]
        if called and text[start] == "[":
            start = text.index("{", start)
        found = members(text, start)
        inner = next((found[name] for name in ("arguments", "parameters") if called and name in found), None)
        return members(text, inner[0]) if inner else found
    except _UNREADABLE:
        return {}


def _same(spelled: str, said: str) -> bool:
    """Whether two JSON texts say the same, as far as broken characters let one see."""
    if spelled == said or _BROKEN in spelled:
        return True
    try:
        return canonical(decode(spelled)) == canonical(decode(said))
    except _UNREADABLE:
        return False

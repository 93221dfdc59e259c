"""The value of a verdict, from the probabilities that a judge gave to the options at the verdict's position.

Completions name listed alternatives by the hash of their bytes (``Completion.top_ids``, decoded with
``token_ids=True``). So each spelling of an option ("Yes", " yes", "**Yes", the ">A<" that a tokenizer fused) is hashed
and looked up, and an option's probability is the sum over its spellings.

- "share": Σ p·value / Σ p over the options. An option that is not listed has at most the probability of the last
  listed alternative, and at most the mass that is not listed; it counts with the smaller of both, so no value is surer
  than the list shows.
- "expectation": Σ p·value over the options, and the remaining mass at 0.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from swift_client.logprobs.clean import token_id
from swift_client.types import Completion
from swift_client.verify.prompts import VerdictRequest
from swift_client.verify.statement import DECORATION, Statement, find_statement

READING_VERSION = 1  # changes whenever the same reply is read otherwise: part of the key of stored verdicts
MIN_MASS = 0.05  # smallest probability of all options together that is read where the text states none of them
NEUTRAL_VALUE = 0.5  # value of the mass outside the options of a scale

F64 = NDArray[np.float64]

# Text before and after an option in one token of a vocabulary.
_AFFIXES = (
    *((before, "") for before in ("", " ", "▁", "Ġ", "\n", "\n\n", "**", " **", "*", "_", "`", " `", "#", '"', ' "',
                                  "'", " '", "“", "(", " (", "[", ">", "> ", ":", ">\n")),
    *(("", after) for after in (".", ",", ":", ")", "]", "*", "**", '"', "'", "`", "\n", "\n\n", "<", "</", " ")),
    *((" ", after) for after in (".", ",", "\n")),
    ("(", ")"), ("[", "]"), (">", "<"), (">", "</"), ('"', '"'), ("'", "'"), ("`", "`"), ("**", "**"), ("*", "*"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The judge's verdict as a number.

    Attributes:
        value: 0..1; 1 is right or best; pairwise: 1 means that the first answer is better.
        confidence: Probability of all listed options together at the verdict's position, 0..1; 1 for text.
        from_text: True if the judge listed no usable logprobs, so that the option that its text states counts.
    """

    value: float
    confidence: float
    from_text: bool


def read_verdict(completion: Completion, request: VerdictRequest) -> Verdict | str:
    """Read the verdict of a judge's reply; its thinking is never read.

    The verdict's position is that of the option that the answer states: its first word, or else the only option that it
    names outside quotations; with ``request.reasons`` the content of the last verdict tag. If the answer states none,
    it is the first word, where the options may be among the alternatives.

    Args:
        completion: the judge's reply, decoded with ``token_ids=True``.
        request: the request that it answers.

    Returns:
        The verdict, or one sentence that says why there is none.
    """
    if completion.finish_reason in ("refusal", "content_filter", "error"):
        return f"The judge's reply has no verdict: it ended with {completion.finish_reason!r}."
    stream = "".join(completion.tokens)
    if not (completion.text.strip() or stream):
        return _explain_empty(completion)
    stated = find_statement(completion.text, request)
    if isinstance(stated, str):
        return stated
    position = _find_position(stream, completion, request, stated)
    if position is not None:
        masses, unlisted = _option_masses(completion, request, position)
        mass = float(masses.sum())
        if mass >= MIN_MASS or (stated is not None and mass > 0):
            value = _READINGS[request.reading](masses, unlisted, np.array(request.values))
            return Verdict(value=min(1.0, max(0.0, value)), confidence=min(1.0, mass), from_text=False)
    if stated is not None:
        return Verdict(value=request.values[stated.option], confidence=1.0, from_text=True)
    if request.reasons:
        end = " before its length limit" if completion.finish_reason == "length" else ""
        return f"The judge's reply has no verdict between its tags{end}."
    return f"The judge's reply states none of the options {_list_options(request)}."


def _explain_empty(completion: Completion) -> str:
    if completion.finish_reason == "length":
        return "The judge's reply has no verdict: its length limit ended it while it was thinking."
    if completion.thinking is not None:
        return "The judge's reply has no verdict: it is empty after the thinking."
    return "The judge's reply has no verdict: it is empty."


def _list_options(request: VerdictRequest) -> str:
    first, last = request.options[0], request.options[-1]
    return f"{first} and {last}" if len(request.options) == 2 else f"{first} to {last}"


@dataclass(frozen=True, kw_only=True)
class _Position:
    """A token, and the part of it that spells an option or its beginning; an empty part if it spells none."""

    token: int
    before: str
    piece: str
    after: str
    is_split: bool  # the option goes on in the next token


def _find_position(
    stream: str, completion: Completion, request: VerdictRequest, stated: Statement | None
) -> _Position | None:
    """Find the token at which the verdict begins; None without logprobs or if the tokens do not spell the text."""
    if not completion.tokens:
        return None
    span = find_statement(stream, request)
    ends = list(accumulate(map(len, completion.tokens)))
    if isinstance(span, Statement) and stated is not None and span.option == stated.option:
        token = next(index for index, end in enumerate(ends) if end > span.start)
        text = completion.tokens[token]
        begin, stop = ends[token] - len(text), min(span.stop, ends[token])
        return _Position(
            token=token,
            before=text[: span.start - begin],
            piece=text[span.start - begin : stop - begin],
            after=text[stop - begin :],
            is_split=stop < span.stop,
        )
    if stated is not None or request.reasons:
        return None
    words = (index for index, token in enumerate(completion.tokens) if re.search(rf"[^{DECORATION}Ġ]", token))
    return _Position(token=next(words, 0), before="", piece="", after="", is_split=False)


def _option_masses(completion: Completion, request: VerdictRequest, position: _Position) -> tuple[F64, float]:
    """Return the probability of each option, (O,), 0 for one that is not listed, and the bound of an unlisted one."""
    chosen = 0.0
    logprob = float(completion.logprobs[position.token])
    if np.isfinite(logprob) and not completion.censored[position.token]:
        chosen = float(np.exp(min(logprob, 0.0)))
    ids, listed = np.zeros(0, np.uint32), np.zeros(0)
    if completion.top_ids is not None:
        row = completion.top_logprobs[position.token].astype(np.float64)
        known = np.isfinite(row)  # NaN and -inf: nothing is listed
        ids, listed = completion.top_ids[position.token][known], np.exp(np.minimum(row[known], 0.0))
    # A chosen token that is not among the alternatives is one more.
    chosen_id = token_id(completion.tokens[position.token].encode("utf-8", "replace"))
    if chosen > 0 and chosen_id not in ids:
        ids, listed = np.append(ids, np.uint32(chosen_id)), np.append(listed, chosen)
    masses = np.zeros(len(request.options))
    for option, hashes in enumerate(_option_hashes(request.options, position)):
        masses[option] = sum(p for token, p in zip(ids.tolist(), listed.tolist(), strict=True) if token in hashes)
    tail = max(0.0, 1.0 - float(listed.sum()))
    return masses, min(float(listed.min(initial=1.0)), tail)


def _option_hashes(options: tuple[str, ...], position: _Position) -> Iterator[Set[int]]:
    """Yield, per option, the hashes of the tokens that spell it, those formed like the chosen token among them."""
    # The chosen token may be longer than any of a vocabulary, so its form is not kept in a cache.
    affixes = {(position.before, position.after), (position.before, ""), ("", position.after)}
    writings = _writings(options, has_lower_letters=position.piece.islower(), is_split=position.is_split)
    common = _common_hashes(options, has_lower_letters=position.piece.islower(), is_split=position.is_split)
    for option, own, hashes in zip(options, writings, common, strict=True):
        same = {position.piece} if position.piece.casefold() == option.casefold() else set()
        yield hashes | {token_id(f"{before}{word}{after}".encode("utf-8", "replace"))
                        for before, after in affixes for word in own | same}  # fmt: skip


@lru_cache(maxsize=16)
def _common_hashes(options: tuple[str, ...], *, has_lower_letters: bool, is_split: bool) -> tuple[frozenset[int], ...]:
    """Return, per option, the hashes of its spellings that vocabularies have."""
    return tuple(
        frozenset(token_id(f"{before}{word}{after}".encode()) for before, after in _AFFIXES for word in words)
        for words in _writings(options, has_lower_letters=has_lower_letters, is_split=is_split)
    )


def _writings(options: Sequence[str], *, has_lower_letters: bool, is_split: bool) -> list[set[str]]:
    """Return, per option, itself in each case and, if the judge's tokens split it, its beginnings.

    A letter counts in lower case only if the judge writes it so, because "a" is a word; a beginning only if no other
    option begins so.
    """
    words = [
        {option, option.lower(), option.upper()} if len(option) > 1 or has_lower_letters else {option}
        for option in options
    ]
    if not is_split:
        return words
    beginnings = [{word[:length] for word in own for length in range(1, len(word))} for own in words]
    return [
        own | {start for start in starts if not any(start in other for other in beginnings if other is not starts)}
        for own, starts in zip(words, beginnings, strict=True)
    ]


def _read_share(masses: F64, unlisted: float, values: F64) -> float:
    weights = np.where(masses > 0, masses, unlisted)
    return float(weights @ values / weights.sum())


def _read_expectation(masses: F64, unlisted: float, values: F64) -> float:
    del unlisted  # part of the remaining mass
    return float(masses @ values + max(0.0, 1.0 - masses.sum()) * NEUTRAL_VALUE)


_READINGS = {"share": _read_share, "expectation": _read_expectation}

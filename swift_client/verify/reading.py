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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from swift_client.logprobs.clean import token_id
from swift_client.types import Completion
from swift_client.verify.prompts import VerdictRequest

MIN_MASS = 0.05  # smallest probability of all options together that is read where the text states none of them
NEUTRAL_VALUE = 0.5  # value of the mass outside the options of a scale

F64 = NDArray[np.float64]

# Characters around an option that change nothing: spaces, quotes, markdown, punctuation, signs of SentencePiece.
_DECORATION = r"""\s"'`*_#<>\[\](){}.,:;!…“”„‘’«»「」▁\-"""
_NOUNS = "answer|verdict|judge?ment|rating|score|grade|letter|choice"
_LABEL = rf"(?:(?:(?:my|the)\s+)?(?:final\s+)?(?:{_NOUNS})\s*(?:is\b)?)?"
_LEAD = rf"[{_DECORATION}]*{_LABEL}[{_DECORATION}]*"
_WORD_START, _WORD_END = r"(?<![^\W_])", r"(?![^\W_])"
_END = r"(?:\s*\Z|[ \t]*\n|(?!['’])[^\w\s])"
# "A good answer" and "I think" name no letter; "A or B" does.
_NOT_A_WORD = r"(?!['’])(?![ ](?!(?:or|and)\b)[a-z])"

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


@dataclass(frozen=True, kw_only=True)
class _Statement:
    """An option that a text states: its index, and the span of characters that spells it."""

    option: int
    start: int
    stop: int


def read_verdict(completion: Completion, request: VerdictRequest) -> Verdict | str:
    """Read the verdict of a judge's reply; its thinking is never read.

    The verdict's position is that of the option that the answer states: the first word, or else the only option that
    is named; with ``request.reasons`` the content of the last verdict tag. If the answer states none, it is the first
    word, where the options may be among the alternatives.

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
    stated = _find_statement(completion.text, request)
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


# The stated option


def _find_statement(text: str, request: VerdictRequest) -> _Statement | str | None:
    """Find the option that a text states: None if there is none, a sentence if there are several."""
    text = text.replace("Ġ", " ")
    if not request.reasons:
        return _find_option(text, request)
    # The last tag that has content: a judge may close with a second opening tag.
    for match in reversed(list(re.finditer(rf"<\s*{re.escape(request.tag)}\s*>([^<]*)", text))):
        if match[1].strip():
            stated = _find_option(match[1], request)
            if not isinstance(stated, _Statement):
                return stated
            shift = match.start(1)
            return _Statement(option=stated.option, start=stated.start + shift, stop=stated.stop + shift)
    return None


def _find_option(text: str, request: VerdictRequest) -> _Statement | str | None:
    options = "|".join(map(re.escape, sorted(request.options, key=len, reverse=True)))
    is_letter = all(len(option) == 1 for option in request.options)
    indices = {option.casefold(): index for index, option in enumerate(request.options)}

    def statement(match: re.Match[str], group: str | int) -> _Statement:
        start, stop = match.span(group)
        return _Statement(option=indices[match[group].casefold()], start=start, stop=stop)

    # The first word, in any case, with nothing but decoration or an end of line after it; a lower-case letter alone.
    lead = re.match(rf"{_LEAD}{_WORD_START}(?P<option>{options}){_WORD_END}{_END}", text, re.IGNORECASE)
    alone = lead and not text[lead.end() :].strip().strip("<>*_`\"'.")
    if lead and (alone or not (is_letter and lead["option"].islower())):
        return statement(lead, "option")
    # Words anywhere, as they were asked for or in capitals; "no" in lower case is a common word.
    capitals = "|".join(re.escape(option.upper()) for option in request.options)
    pattern = rf"{_WORD_START}(?:{options}|{capitals}){_WORD_END}{_NOT_A_WORD if is_letter else ''}"
    statements = [statement(match, 0) for match in re.finditer(pattern, text)]
    if len({stated.option for stated in statements}) > 1:
        return "The judge's reply names several options."
    return statements[0] if statements else None


# Probabilities of the options


@dataclass(frozen=True, kw_only=True)
class _Position:
    """A token, and the part of it that spells an option or its beginning; an empty part if it spells none."""

    token: int
    before: str
    piece: str
    after: str
    is_split: bool  # the option goes on in the next token


def _find_position(
    stream: str, completion: Completion, request: VerdictRequest, stated: _Statement | None
) -> _Position | None:
    """Find the token at which the verdict begins; None without logprobs or if the tokens do not spell the text."""
    if not completion.tokens:
        return None
    span = _find_statement(stream, request)
    ends = list(accumulate(map(len, completion.tokens)))
    if isinstance(span, _Statement) and stated is not None and span.option == stated.option:
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
    words = (index for index, token in enumerate(completion.tokens) if re.search(rf"[^{_DECORATION}Ġ]", token))
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
    for option, spellings in enumerate(_spellings(request.options, position)):
        hashes = np.array(list({token_id(spelling.encode()) for spelling in spellings}), np.uint32)
        masses[option] = listed[np.isin(ids, hashes)].sum()
    tail = max(0.0, 1.0 - float(listed.sum()))
    return masses, min(float(listed.min(initial=1.0)), tail)


def _spellings(options: Sequence[str], position: _Position) -> Iterator[Iterator[str]]:
    """Yield, per option, the texts of tokens that spell it; or begin it, if the chosen token only begins one."""
    affixes = {*_AFFIXES, (position.before, position.after), (position.before, ""), ("", position.after)}
    words = [_words(option, position) for option in options]
    for number, own in enumerate(words):
        others = [other for index, row in enumerate(words) if index != number for other in row]
        # A beginning counts only if no other option begins so.
        beginnings = {
            word[:length]
            for word in own
            for length in range(1, len(word))
            if position.is_split and not any(other.startswith(word[:length]) for other in others)
        }
        yield (
            f"{before}{word}{after}" for before, after in affixes for word in (*own, *(beginnings if not after else ()))
        )


def _words(option: str, position: _Position) -> set[str]:
    """Return an option in each case; a single letter in lower case only if the judge writes it so."""
    if len(option) > 1 or position.piece.islower():
        return {option, option.lower(), option.upper()}
    return {option}


def _read_share(masses: F64, unlisted: float, values: F64) -> float:
    weights = np.where(masses > 0, masses, unlisted)
    return float(weights @ values / weights.sum())


def _read_expectation(masses: F64, unlisted: float, values: F64) -> float:
    del unlisted  # part of the remaining mass
    return float(masses @ values + max(0.0, 1.0 - masses.sum()) * NEUTRAL_VALUE)


_READINGS = {"share": _read_share, "expectation": _read_expectation}

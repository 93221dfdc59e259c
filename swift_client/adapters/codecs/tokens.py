"""The tokens of one completion, for every codec: which of them spell the answer, and their clean arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from swift_client.logprobs import clean as logprobs
from swift_client.types import Bool

_END_OF_TURN = re.compile(r"|<[|｜][^<>]*[|｜]>|</s>|<(eos|end_of_turn|turn\|)>|\[EOS\]|\[/INST\]", re.IGNORECASE)
"""Tokens that end a turn in open models' vocabularies; llama.cpp lists theirs as an empty text."""


def answer_tokens(
    texts: list[str],
    text: str,
    token_bytes: Callable[[], list[bytes]],
    *,
    has_thinking: bool = False,
    markup: bool = False,
) -> tuple[int, list[str], str | None]:
    """Find the tokens that spell the answer.

    Args:
        texts: every listed token's text.
        text: the visible answer.
        spellings: gives every listed token's bytes, where its text does not do.
        thought: whether tokens of hidden thinking may be listed too.
        markup: whether the tokens are a model's markup of a call, which never spells the JSON.

    Returns:
        Index of the first, their texts, and a note where they do not spell the answer.
    """
    if texts and texts[-1] and "".join(texts) == text:
        return 0, texts, None
    if not texts or not text:
        return 0, [], None
    pieces = token_bytes()
    texts = [piece.decode("utf-8", "replace") for piece in pieces]
    span = logprobs.answer_span(pieces, text.encode("utf-8", "replace"))
    if span:
        return span[0], texts[slice(*span)], None
    if has_thinking:
        return 0, [], "has no logprobs: its tokens cannot be told from its thinking tokens"
    while texts and _END_OF_TURN.fullmatch(texts[-1]):
        texts.pop()
    return 0, texts, None if markup else "has logprobs for tokens that do not spell its text"


def clean_logprob_fields(
    chosen_logprobs: Sequence[Any],
    listed_logprobs: Sequence[Any],
    list_lengths: Sequence[int],
    *,
    texts: Callable[[], Sequence[str | None]],
    token_bytes: Callable[[], Sequence[bytes]],
    top_logprobs: int | None,
    token_ids: bool,
) -> dict[str, Any]:
    """Clean the numbers of T tokens by the one rule for all and return the arrays' fields of a Completion.

    Args:
        chosen: (T,) logprob of each chosen token; None where there is no number.
        listed: logprobs of the tokens' lists of alternatives, one list after the other.
        counts: (T,) length of each list.
        texts: gives the text of each entry of ``listed``; asked only where two numbers are equal.
        spellings: gives the bytes of each; asked where two texts are equal too, or for ``token_ids``.
        top_logprobs: exact number of columns; None means the longest list.
        token_ids: whether to fill in ``top_ids``.

    Raises:
        UnusableLogprobs: they are no logprobs.
    """

    def same_token(first: logprobs.IndexArray, second: logprobs.IndexArray) -> Bool:
        words = texts()
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        same = np.array([words[one] == words[two] for one, two in pairs], np.bool_)
        for at in np.flatnonzero(same):  # equal text may still stand for different bytes of a broken character
            same[at] = token_bytes()[first[at]] == token_bytes()[second[at]]
        return same

    try:
        numbers = np.array(chosen_logprobs, np.float64), np.array(listed_logprobs, np.float64)
    except ValueError:
        raise logprobs.UnusableLogprobs("its numbers are not numbers") from None
    clean = logprobs.clean(*numbers, np.array(list_lengths, np.intp), same_token=same_token, k=top_logprobs)
    ids = None
    if token_ids:
        known = [logprobs.token_id(spelled) for spelled in token_bytes()]
        ids = np.array([*known, 0], np.uint32)[clean.positions]  # position -1, nothing listed, takes the 0
    return {
        "logprobs": clean.logprobs,
        "top_logprobs": clean.top_logprobs,
        "censored": clean.censored,
        "top_ids": ids,
    }

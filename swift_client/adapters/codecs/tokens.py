"""The tokens of one completion, for every codec: the span that spells the answer, and its clean arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from swift_client.logprobs import clean as logprobs
from swift_client.types import Bool

# Tokens that end a turn in the vocabularies of open models; llama.cpp lists theirs with an empty text.
_END_OF_TURN = re.compile(r"|<[|｜][^<>]*[|｜]>|</s>|<(eos|end_of_turn|turn\|)>|\[EOS\]|\[/INST\]", re.IGNORECASE)


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
        texts: the text of every listed token.
        text: the visible answer.
        token_bytes: returns the bytes of every listed token; called only if the texts do not suffice.
        has_thinking: whether tokens of hidden thinking may be listed too.
        markup: whether the tokens are a model's markup of a tool call, which never spells the call's JSON.

    Returns:
        Index of the first token, the tokens' texts, and a note if they do not spell the answer.
    """
    # The common case: the tokens are the answer.
    if texts and texts[-1] and "".join(texts) == text:
        return 0, texts, None
    if not texts or not text:
        return 0, [], None
    # Align by bytes: characters may be split between tokens, thinking may come first, an end-of-turn token last.
    pieces = token_bytes()
    texts = [piece.decode("utf-8", "replace") for piece in pieces]
    span = logprobs.answer_span(pieces, text.encode("utf-8", "replace"))
    if span:
        return span[0], texts[slice(*span)], None
    if has_thinking:
        return 0, [], "has no logprobs: its tokens cannot be distinguished from its thinking tokens"
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
    top_logprobs: int | None = None,
    token_ids: bool = False,
) -> dict[str, Any]:
    """Clean the logprobs of T tokens and return the array fields of a Completion.

    Args:
        chosen_logprobs: (T,) logprob of each chosen token; None if there is no number.
        listed_logprobs: logprobs of the tokens' lists of alternatives, one list after the other.
        list_lengths: (T,) length of each list.
        texts: returns the text of each listed alternative; called only if two logprobs are equal.
        token_bytes: returns the bytes of each; called if two texts are equal too, or for ``token_ids``.
        top_logprobs: number of columns; None means the longest list.
        token_ids: whether to fill in ``top_ids``.

    Raises:
        UnusableLogprobs: the numbers are not logprobs.
    """

    def same_token(first: logprobs.IndexArray, second: logprobs.IndexArray) -> Bool:
        words = texts()
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        same = np.array([words[one] == words[two] for one, two in pairs], np.bool_)
        for pair in np.flatnonzero(same):  # equal texts may stand for different bytes of a split character
            same[pair] = token_bytes()[first[pair]] == token_bytes()[second[pair]]
        return same

    try:
        numbers = np.array(chosen_logprobs, np.float64), np.array(listed_logprobs, np.float64)
    except ValueError:
        raise logprobs.UnusableLogprobs("its logprobs are not numbers") from None
    clean = logprobs.clean(*numbers, np.array(list_lengths, np.intp), same_token=same_token, k=top_logprobs)
    ids = None
    if token_ids:
        listed_ids = [logprobs.token_id(piece) for piece in token_bytes()]
        ids = np.array([*listed_ids, 0], np.uint32)[clean.positions]  # position -1 (no alternative) takes the 0
    return {"logprobs": clean.logprobs, "top_logprobs": clean.top_logprobs, "censored": clean.censored, "top_ids": ids}

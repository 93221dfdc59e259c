"""Raw numbers of any provider become clean arrays here, by one rule. Pure numpy, no loop over tokens.

The rule, for the logprobs of one completion (natural logarithms):

- null, NaN, ±inf and everything <= -100 (OpenAI's -9999 and -100, vLLM's -9999, llama.cpp's -3.4e38) are not numbers
  but "I do not say". A chosen token like that is *censored*: its value becomes the upper bound
  max(-20, min(last listed logprob, log tail mass)), the tail mass being 1 - Σp of the listed ones. A listed
  alternative like that counts as not listed.
- Up to 1e-3 above zero is rounding, and becomes 0. More is no logprob (vLLM can be told to send raw logits), and a
  list whose probabilities sum to more than 1.01 is no distribution: then the completion has no logprobs.
- Lists fall. Of two entries with the same value *and* the same token one is dropped (vLLM lists the chosen token
  twice: vllm#36660). The same value alone is rounding; the same token at another value is another entry, because
  several vocabulary entries can share one spelling.
- What was not listed is -inf, never 0.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swift_client.types import F32, Bool

F64 = NDArray[np.float64]
IndexArray = NDArray[np.intp]

SENTINEL = -100.0
"""Nats; at or below this a provider means "not listed", not a probability."""
FLOOR = -20.0
"""Nats; lowest value that a censored token may get."""
ROUNDING_TOLERANCE = 1e-3
"""Nats; a logprob may exceed zero by so much."""
MASS_LIMIT = 1.01
"""Highest sum of listed probabilities that rounding explains."""

SameToken = Callable[[IndexArray, IndexArray], Bool]
"""(M,) and (M,) positions in ``listed`` to (M,) bool: whether the two are the same token (bytes, else text)."""


class UnusableLogprobs(Exception):
    """The numbers are no logprobs; the message says why, as the end of a sentence on a completion."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CleanLogprobs:
    """Arrays of one completion, as :class:`swift_client.types.Completion` holds them."""

    logprobs: F32
    """(T,) float32, <= 0."""
    top_logprobs: F32
    """(T, K) float32, falling along axis 1, -inf where nothing was listed."""
    censored: Bool
    """(T,) bool."""
    positions: IndexArray
    """(T, K) position of each entry in the flat ``listed`` array; -1 where nothing was listed."""


def clean(
    chosen_logprobs: F64, listed_logprobs: F64, counts: IndexArray, *, same_token: SameToken, k: int | None = None
) -> CleanLogprobs:
    """Clean the numbers of one completion.

    Args:
        chosen: (T,) float64, logprob of each chosen token; NaN for null.
        listed: (sum of counts,) float64, the tokens' lists of alternatives one after the other; NaN for null.
        counts: (T,) how many entries each token's list holds.
        same_token: tells duplicates; called only with pairs of equal value.
        k: exact number of columns of the result; None means as many as the longest list holds.

    Raises:
        UnusableLogprobs: they are raw logits, no distribution, or placeholders.
    """
    if _above_zero(chosen_logprobs) or _above_zero(listed_logprobs):
        raise UnusableLogprobs("its numbers lie above zero: raw logits, not logprobs")
    hidden = ~((chosen_logprobs > SENTINEL) & (chosen_logprobs < np.inf))  # a comparison with NaN is False
    top, positions = _to_matrix(listed_logprobs, counts)
    if len(chosen_logprobs) and (hidden.all() or not chosen_logprobs.any()) and not (top > -np.inf).any():
        # LM Studio fills in 0 where logprobs were not asked for, xinference null.
        raise UnusableLogprobs("its numbers are placeholders: all the same, with nothing listed beside them")
    _sort_and_merge(top, positions, same_token)
    probability = np.exp(top).sum(axis=1)
    if (probability > MASS_LIMIT).any():
        raise UnusableLogprobs("its listed probabilities sum to more than 1: not a distribution")
    logprobs = np.minimum(chosen_logprobs, 0.0)
    if hidden.any():
        tail = np.log(np.clip(1.0 - probability[hidden], np.exp(FLOOR), 1.0))
        lists = top[hidden]
        last = np.where(lists > -np.inf, lists, 0.0).min(axis=1, initial=0.0)
        logprobs[hidden] = np.maximum(FLOOR, np.minimum(last, tail))
    width = int((top > -np.inf).sum(axis=1).max(initial=0)) if k is None else k
    return CleanLogprobs(
        logprobs=logprobs.astype(np.float32),
        top_logprobs=_resize_columns(top, width, -np.inf).astype(np.float32),
        censored=hidden,
        positions=_resize_columns(positions, width, -1),
    )


def answer_span(token_bytes: Sequence[bytes], answer: bytes) -> tuple[int, int] | None:
    """Find the tokens that spell the answer at the end of a token stream.

    Before the answer may stand thinking tokens, after it end-of-turn tokens, stop words and empty tokens; white space
    that the server trimmed may be missing at both ends. Pieces may hold U+FFFD where a server broke a character
    (vLLM does); then every run of non-ASCII bytes counts as equal to every other.

    Args:
        pieces: the tokens' bytes in order.
        answer: the answer's bytes, not empty.

    Returns:
        (start, stop), so that ``pieces[start:stop]`` spell the answer; None where they do not spell it.
    """
    stream = b"".join(token_bytes)
    ends = np.cumsum(np.fromiter(map(len, token_bytes), np.intp, len(token_bytes)))
    place = _find_last(stream, answer, ends)
    if place is None and b"\xef\xbf\xbd" in stream:
        outline, origin = _collapse_non_ascii(stream)
        wanted, _ = _collapse_non_ascii(answer)
        # An outline keeps the first byte of each run, so tokens end where the next kept byte begins.
        found = _find_last(outline, wanted, np.searchsorted(origin[:-1], ends))
        place = None if found is None else (int(origin[found[0]]), int(origin[found[1]]))
    if place is None:
        return None
    start, stop = place
    return int(np.searchsorted(ends, start, "right")), int(np.searchsorted(ends, stop, "left")) + 1


def token_id(token: bytes) -> int:
    """Return the identity of a token's bytes (CRC-32) as uint32 > 0, the same in every process."""
    return zlib.crc32(token) or 1


def _above_zero(values: F64) -> bool:
    return bool(((values > ROUNDING_TOLERANCE) & (values < np.inf)).any())


def _to_matrix(listed_logprobs: F64, counts: IndexArray) -> tuple[F64, IndexArray]:
    """Lay ragged lists out as (T, W) values, -inf where nothing is said, and their (T, W) positions."""
    width = int(counts.max(initial=0))
    if len(listed_logprobs) == width * len(counts):
        top = listed_logprobs.reshape(len(counts), width)
        positions = np.arange(len(listed_logprobs), dtype=np.intp).reshape(top.shape)
    else:
        inside = np.arange(width) < counts[:, None]
        top = np.full(inside.shape, -np.inf)
        positions = np.full(inside.shape, -1, np.intp)
        top[inside] = listed_logprobs
        positions[inside] = np.arange(len(listed_logprobs))
    hidden = ~((top > SENTINEL) & (top < np.inf))  # a comparison with NaN is False
    positions[hidden] = -1
    return np.where(hidden, -np.inf, np.minimum(top, 0.0)), positions


def _sort_and_merge(top: F64, positions: IndexArray, same_token: SameToken) -> None:
    """Make lists fall and drop the second of each pair of equal value and token, in place."""
    _sort(top, positions)
    duplicates: list[IndexArray] = []
    values, places, width = top.ravel(), positions.ravel(), top.shape[1]
    first = np.flatnonzero((top[:, :-1] == top[:, 1:]) & (top[:, 1:] > -np.inf))
    first += first // max(width - 1, 1)  # from an index into (T, W - 1) to one into (T, W)
    lag = 1
    while len(first):  # pairs of equal value, first neighbours, then further and further apart
        second = first + lag
        duplicates.append(second[same_token(places[first], places[second])])
        lag += 1
        first = first[first % width < width - lag]
        first = first[values[first] == values[first + lag]]
    if duplicates and len(at := np.concatenate(duplicates)):
        values[at], places[at] = -np.inf, -1
        _sort(top, positions)


def _sort(top: F64, positions: IndexArray) -> None:
    if (top[:, :-1] < top[:, 1:]).any():
        order = np.argsort(-top, axis=1, kind="stable")
        top[:] = np.take_along_axis(top, order, axis=1)
        positions[:] = np.take_along_axis(positions, order, axis=1)


def _resize_columns(values: NDArray[Any], width: int, fill: float) -> NDArray[Any]:
    """Cut or fill (T, W) up to (T, width)."""
    missing = max(0, width - values.shape[1])
    return np.pad(values[:, :width], ((0, 0), (0, missing)), constant_values=fill) if missing else values[:, :width]


def _find_last(stream: bytes, answer: bytes, ends: IndexArray) -> tuple[int, int] | None:
    """Find the answer in the stream: at most three tokens before its end if possible, else the last occurrence.

    Looking at token ends first keeps "E" from being found inside "<|EOT|>".
    """
    near = [int(end) for end in ends[:-5:-1] if stream.endswith(answer, 0, int(end))]
    if near:
        borders = {0, *ends.tolist()}
        end = min(near, key=lambda end: end - len(answer) not in borders)
        return end - len(answer), end
    start = stream.rfind(answer)
    return None if start < 0 else (start, start + len(answer))


def _collapse_non_ascii(text: bytes) -> tuple[bytes, IndexArray]:
    """Shrink each run of non-ASCII bytes to one; also return where each kept byte stood, and the length at the end."""
    values = np.frombuffer(text, np.uint8)
    foreign = values >= 0x80
    kept = ~foreign
    kept[:1] = True
    kept[1:] |= ~foreign[:-1]
    origin = np.flatnonzero(kept)
    return np.where(foreign, 0xFF, values)[origin].astype(np.uint8).tobytes(), np.append(origin, len(text))

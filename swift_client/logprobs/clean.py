"""Cleaning of raw logprobs of any provider into arrays, by one rule. Pure numpy, no loop over tokens.

The rule, for the logprobs of one completion (natural logarithms):

- null, NaN, ±inf and everything <= -100 (OpenAI's -9999 and -100, vLLM's -9999, llama.cpp's -3.4e38) are sentinels for
  "unknown". A chosen token with a sentinel is *censored*: its value becomes the upper bound
  max(-20, min(last listed logprob, log tail mass)), with the tail mass 1 - Σp of the listed ones. An alternative with a
  sentinel counts as not listed.
- Values up to 1e-3 above zero are rounding and become 0. Larger ones are not logprobs (vLLM can be configured to send
  raw logits), and a list whose probabilities sum to more than 1.01 is not a distribution. The completion then has no
  logprobs.
- Lists are sorted in falling order. Of two entries with the same value *and* the same token one is dropped (vLLM lists
  the chosen token twice: vllm#36660). The same value alone is rounding. The same token at another value is another
  entry, because several vocabulary entries can share one spelling.
- Unlisted entries are -inf, never 0.
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

SENTINEL = -100.0  # nats; a value at or below this is a sentinel for "not listed"
FLOOR = -20.0  # nats; lowest value of a censored token
ROUNDING_TOLERANCE = 1e-3  # nats; a logprob may exceed zero by this much
MASS_LIMIT = 1.01  # highest sum of listed probabilities that rounding explains

# From two arrays (M,) of positions in ``listed_logprobs`` to (M,) bool: whether both are the same
# token (by bytes, else by text).
SameToken = Callable[[IndexArray, IndexArray], Bool]


class UnusableLogprobs(Exception):
    """The numbers are not logprobs; the message gives the reason, as the end of a sentence about a completion."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CleanLogprobs:
    """Arrays of one completion, as ``swift_client.types.Completion`` holds them."""

    logprobs: F32  # (T,) float32, <= 0
    top_logprobs: F32  # (T, K) float32, falling along axis 1, -inf where nothing was listed
    censored: Bool  # (T,) bool
    # (T, K) position of each entry in the flat ``listed_logprobs``; -1 where nothing was listed.
    positions: IndexArray


def clean(
    chosen_logprobs: F64, listed_logprobs: F64, counts: IndexArray, *, same_token: SameToken, k: int | None = None
) -> CleanLogprobs:
    """Clean the logprobs of one completion.

    Args:
        chosen_logprobs: (T,) float64, logprob of each chosen token; NaN for null.
        listed_logprobs: (sum of counts,) float64, the tokens' lists of alternatives laid end to end; NaN for null.
        counts: (T,) number of entries in each token's list.
        same_token: tells duplicates; called only with pairs of equal value.
        k: number of columns of the result; None: the length of the longest list.

    Raises:
        UnusableLogprobs: the numbers are raw logits, not a distribution, or placeholders.
    """
    if _above_zero(chosen_logprobs) or _above_zero(listed_logprobs):
        raise UnusableLogprobs("its numbers lie above zero: raw logits, not logprobs")
    hidden = ~((chosen_logprobs > SENTINEL) & (chosen_logprobs < np.inf))  # a comparison with NaN is False
    top, positions = _to_matrix(listed_logprobs, counts)
    if len(chosen_logprobs) and (hidden.all() or not chosen_logprobs.any()) and not (top > -np.inf).any():
        # LM Studio fills in 0, and xinference null, if logprobs were not requested.
        raise UnusableLogprobs("its numbers are placeholders: all the same, and no alternatives are listed")
    _sort(top, positions)
    if _drop_duplicates(top, positions, same_token):
        _sort(top, positions)
    probability = np.exp(top).sum(axis=1)
    if (probability > MASS_LIMIT).any():
        raise UnusableLogprobs("its listed probabilities sum to more than 1: not a distribution")
    logprobs = np.minimum(chosen_logprobs, 0.0)
    if hidden.any():
        # A censored token gets its upper bound: it is below the last listed one and within the tail mass.
        tail = np.log(np.clip(1.0 - probability[hidden], np.exp(FLOOR), 1.0))
        lists = top[hidden]
        last_listed = np.where(lists > -np.inf, lists, 0.0).min(axis=1, initial=0.0)
        logprobs[hidden] = np.maximum(FLOOR, np.minimum(last_listed, tail))
    width = int((top > -np.inf).sum(axis=1).max(initial=0)) if k is None else k
    return CleanLogprobs(
        logprobs=logprobs.astype(np.float32),
        top_logprobs=resize_columns(top, width, -np.inf).astype(np.float32),
        censored=hidden,
        positions=resize_columns(positions, width, -1),
    )


def resize_columns(values: NDArray[Any], width: int, fill: float) -> NDArray[Any]:
    """Truncate (T, W) to (T, width), or pad it with ``fill``."""
    missing = max(0, width - values.shape[1])
    return np.pad(values[:, :width], ((0, 0), (0, missing)), constant_values=fill) if missing else values[:, :width]


def answer_span(token_bytes: Sequence[bytes], answer: bytes) -> tuple[int, int] | None:
    """Find the tokens that spell the answer at the end of a token stream.

    The answer may follow thinking tokens, and end-of-turn tokens, stop words and empty tokens may follow it. White
    space that the server trimmed may be missing at both ends. Tokens may hold U+FFFD for a character that the
    server split (vLLM does); then every sequence of non-ASCII bytes counts as equal to every other.

    Args:
        token_bytes: the bytes of the tokens, in order.
        answer: the bytes of the answer, not empty.

    Returns:
        (start, stop), so that ``token_bytes[start:stop]`` spell the answer; None if they do not.
    """
    stream = b"".join(token_bytes)
    ends = np.cumsum(np.fromiter(map(len, token_bytes), np.intp, len(token_bytes)))
    span = _find_last(stream, answer, ends)
    if span is None and b"\xef\xbf\xbd" in stream:
        collapsed_stream, origins = _collapse_non_ascii(stream)
        collapsed_answer, _ = _collapse_non_ascii(answer)
        # Collapsing keeps the first byte of each non-ASCII sequence, so a token ends where the next kept byte begins.
        collapsed_span = _find_last(collapsed_stream, collapsed_answer, np.searchsorted(origins[:-1], ends))
        span = collapsed_span and (int(origins[collapsed_span[0]]), int(origins[collapsed_span[1]]))
    if span is None:
        return None
    start, stop = span
    return int(np.searchsorted(ends, start, "right")), int(np.searchsorted(ends, stop, "left")) + 1


def token_id(token: bytes) -> int:
    """Return a hash of a token's bytes (CRC-32) as uint32 > 0, the same in every process."""
    return zlib.crc32(token) or 1


def _above_zero(values: F64) -> bool:
    return bool(((values > ROUNDING_TOLERANCE) & (values < np.inf)).any())


def _to_matrix(listed_logprobs: F64, counts: IndexArray) -> tuple[F64, IndexArray]:
    """Pad ragged lists to values (T, W), -inf where nothing is listed, and their positions (T, W)."""
    width = int(counts.max(initial=0))
    if len(listed_logprobs) == width * len(counts):
        top = listed_logprobs.reshape(len(counts), width)
        positions = np.arange(len(listed_logprobs), dtype=np.intp).reshape(top.shape)
    else:
        is_entry = np.arange(width) < counts[:, None]
        top = np.full(is_entry.shape, -np.inf)
        positions = np.full(is_entry.shape, -1, np.intp)
        top[is_entry] = listed_logprobs
        positions[is_entry] = np.arange(len(listed_logprobs))
    hidden = ~((top > SENTINEL) & (top < np.inf))  # a comparison with NaN is False
    positions[hidden] = -1
    return np.where(hidden, -np.inf, np.minimum(top, 0.0)), positions


def _drop_duplicates(top: F64, positions: IndexArray, same_token: SameToken) -> bool:
    """Drop the second of each pair of equal value and token, in place; return True if that left gaps in the lists."""
    duplicates: list[IndexArray] = []
    values, flat_positions, width = top.ravel(), positions.ravel(), top.shape[1]
    first = np.flatnonzero((top[:, :-1] == top[:, 1:]) & (top[:, 1:] > -np.inf))
    first += first // max(width - 1, 1)  # from an index into (T, W - 1) to one into (T, W)
    lag = 1
    while len(first):  # pairs of equal value: first neighbours, then at growing distance
        second = first + lag
        duplicates.append(second[same_token(flat_positions[first], flat_positions[second])])
        lag += 1
        first = first[first % width < width - lag]
        first = first[values[first] == values[first + lag]]
    if not duplicates or not len(dropped := np.concatenate(duplicates)):
        return False
    values[dropped], flat_positions[dropped] = -np.inf, -1
    return True


def _sort(top: F64, positions: IndexArray) -> None:
    """Sort lists in falling order, in place."""
    if (top[:, :-1] < top[:, 1:]).any():
        order = np.argsort(-top, axis=1, kind="stable")
        top[:] = np.take_along_axis(top, order, axis=1)
        positions[:] = np.take_along_axis(positions, order, axis=1)


def _find_last(stream: bytes, answer: bytes, ends: IndexArray) -> tuple[int, int] | None:
    """Find the answer in the stream: at the end of one of the last four tokens, else its last occurrence.

    Token ends are tried first, so that "E" is not found inside "<|EOT|>".
    """
    matching_ends = [int(end) for end in ends[:-5:-1] if stream.endswith(answer, 0, int(end))]
    if matching_ends:
        borders = {0, *ends.tolist()}
        end = min(matching_ends, key=lambda end: end - len(answer) not in borders)
        return end - len(answer), end
    start = stream.rfind(answer)
    return None if start < 0 else (start, start + len(answer))


def _collapse_non_ascii(text: bytes) -> tuple[bytes, IndexArray]:
    """Collapse each sequence of non-ASCII bytes to one byte.

    Also return the original positions of the kept bytes, with the length of ``text`` at the end.
    """
    values = np.frombuffer(text, np.uint8)
    non_ascii = values >= 0x80
    keep = ~non_ascii
    keep[:1] = True
    keep[1:] |= ~non_ascii[:-1]
    origins = np.flatnonzero(keep)
    return np.where(non_ascii, 0xFF, values)[origins].astype(np.uint8).tobytes(), np.append(origins, len(text))

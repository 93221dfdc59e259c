"""Compact blobs of a completion's tokens and arrays. A blob cannot run code or ask for much memory.

A generated reply of 400 tokens with 20 alternatives takes 15 KB instead of 35, with the alternatives' ids 41 instead of
67. Logprobs of chosen tokens stay float32; those of alternatives become float16, a relative change of at most 1/2048.
The chosen token's rank, which features compute by comparing the two, is stored exactly.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from swift_client.types import F16, F32, Completion, FinishReason, ToolCall

# Decompressed bytes that a blob may have; 100,000 tokens with 20 alternatives and their ids take 14 MB.
MAX_BLOB_BYTES = 64 * 2**20
MAX_TOKENS = 1_000_000  # tokens that a completion may have
MAX_EMPTY_WIDTH = 2**20  # width that an array of no tokens may have
# -65504; a lower logprob would become -inf, which means "not listed".
MIN_FLOAT16 = float(np.finfo(np.float16).min)

_MAGNITUDE = np.uint16(0x7FFF)  # bits of a float16 without its sign
_NEGATIVE_INFINITY = np.uint16(0xFC00)
_BLOCK_VALUES = 2**15  # values that are restored at a time, so that they stay in the processor's cache

Parts = tuple[str, str, bytes, float | None]  # a completion as a row has it: text, finish reason, arrays, label
# Array → its dtype in the blob; each is (T, width).
_ARRAY_DTYPES: Mapping[str, str] = {
    "logprobs": "<f4",
    "top": "<f2",
    "rank": "<u2",
    "censored": "|b1",
    "ids": "<u4",
    "hidden": "<f2",
    "projections": "<f4",
}


class _PackedThinking(msgspec.Struct, array_like=True, frozen=True):
    text: str
    finish_reason: FinishReason
    content: _PackedCompletion


class _PackedCompletion(msgspec.Struct, array_like=True, frozen=True):
    tokens: Annotated[list[str], msgspec.Meta(max_length=MAX_TOKENS)]
    arrays: dict[str, tuple[int, bytes]]  # name → width and bytes
    thinking: _PackedThinking | None = None


class _PackedSample(_PackedCompletion, array_like=True, frozen=True):
    # Written only if there are any; older versions ignore them.
    mean_logprob: float | None = None
    tool_calls: list[tuple[str, str]] = msgspec.field(default_factory=list)  # names and arguments
    answer_text: str | None = None


class _PackedRedacted(_PackedSample, array_like=True, frozen=True):
    is_redacted: bool = False


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_PackedRedacted)


def pack(completion: Completion, mean_logprob: float | None = None, *, is_redacted: bool = False) -> bytes:
    """Return tokens, arrays, thinking and tool calls as bytes, without text, index and finish reason.

    Args:
        completion: the completion.
        mean_logprob: mean logprob of its tokens, if it has none of its own.
        is_redacted: whether it lacks a part of its text, so that it must not be used in place of a new one.

    Raises:
        ValueError: the completion is larger than ``unpack()`` accepts.
    """
    packed = _pack_completion(completion)
    calls = [(replace_surrogates(call.name), replace_surrogates(call.arguments)) for call in completion.tool_calls]
    answer_text = None if completion.answer_text is None else replace_surrogates(completion.answer_text)
    parts = (packed.tokens, packed.arrays, packed.thinking, mean_logprob, calls, answer_text)
    if is_redacted:
        packed = _PackedRedacted(*parts, is_redacted=True)
    elif mean_logprob is not None or calls or answer_text is not None:
        packed = _PackedSample(*parts)
    data = _ENCODER.encode(packed)
    if len(data) > MAX_BLOB_BYTES or len(packed.tokens) > MAX_TOKENS:
        raise ValueError(f"a completion of {len(packed.tokens):,} tokens takes {len(data) >> 20} MB")
    return zlib.compress(data, 4)


def pack_all(
    completions: Sequence[Completion],
    stored: Sequence[Completion],
    means: Sequence[float | None] | None,
    labels: Sequence[float | None] | None,
) -> list[Parts]:
    """Return the completions of a reply as rows have them. Raises ValueError as ``pack()``.

    Args:
        completions: the completions.
        stored: the same as they are stored; other objects where private data was removed.
        means: as of ``pack()``, for each.
        labels: of each, kept for those that are stored in another form; None: unknown.
    """
    unknown = [None] * len(completions)
    rows = zip(completions, stored, means or unknown, labels or unknown, strict=True)
    return [
        (
            replace_surrogates(kept.text),
            kept.finish_reason,
            pack(kept, mean, is_redacted=kept is not original),
            None if kept is original else label,
        )
        for original, kept, mean, label in rows
    ]


def unpack(blob: bytes, *, text: str, index: int, finish_reason: Any) -> Completion:
    """Return the completion of a blob. Raises ValueError for a blob that ``pack()`` did not make."""
    packed = _decode(blob)
    completion = _unpack_completion(packed, text=text, index=index, finish_reason=finish_reason)
    if packed.tool_calls or packed.answer_text is not None:
        calls = tuple(ToolCall(name=name, arguments=arguments) for name, arguments in packed.tool_calls)
        completion = replace(completion, tool_calls=calls, answer_text=packed.answer_text)
    if (thought := packed.thinking) is None:
        return completion
    if thought.content.thinking is not None:
        raise ValueError("a sample's thinking contains thinking itself")
    thinking = _unpack_completion(thought.content, text=thought.text, index=index, finish_reason=thought.finish_reason)
    return replace(completion, thinking=thinking)


def unpack_mean(blob: bytes) -> float | None:
    """Return the ``mean_logprob`` of a blob. Raises ValueError as ``unpack()``, and if it is not a logprob."""
    mean = _decode(blob).mean_logprob
    if mean is not None and not -math.inf < mean <= 0:
        raise ValueError("a sample has an invalid mean logprob: NaN, infinite or above 0")
    return mean


def is_redacted(blob: bytes) -> bool:
    """Return True if the completion lacks a part of its text. Raises ValueError as ``unpack()``."""
    return _decode(blob).is_redacted


def _decode(blob: bytes) -> _PackedRedacted:
    inflate = zlib.decompressobj()
    try:
        # Decompress at most the limit: a small blob may unfold to gigabytes.
        data = inflate.decompress(blob, MAX_BLOB_BYTES)
        if not inflate.eof:
            raise ValueError(f"a sample's blob is truncated, or larger than {MAX_BLOB_BYTES >> 20} MB")
        return _DECODER.decode(data)
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"a sample's blob is damaged ({error})") from error


def replace_surrogates(text: str) -> str:
    """Return ``text`` with each lone surrogate, which UTF-8 cannot encode, as a question mark."""
    return text.encode("utf-8", "replace").decode()


def _pack_completion(completion: Completion) -> _PackedCompletion:
    top, rank = round_alternatives(completion.top_logprobs, completion.logprobs)
    arrays: dict[str, NDArray[Any]] = {
        "logprobs": completion.logprobs,
        "top": top,
        "rank": rank,
        "censored": completion.censored,
    }
    optional = {"ids": completion.top_ids, "hidden": completion.hidden_states, "projections": completion.projections}
    arrays |= {name: array for name, array in optional.items() if array is not None}
    thinking = None
    if (thought := completion.thinking) is not None:
        text = replace_surrogates(thought.text)
        thinking = _PackedThinking(text, thought.finish_reason, _pack_completion(thought))
    return _PackedCompletion(
        tokens=[replace_surrogates(token) for token in completion.tokens],
        arrays={name: _shuffle(array, _ARRAY_DTYPES[name]) for name, array in arrays.items()},
        thinking=thinking,
    )


def _unpack_completion(content: _PackedCompletion, *, text: str, index: int, finish_reason: Any) -> Completion:
    if not {"logprobs", "top", "rank", "censored"} <= content.arrays.keys() <= _ARRAY_DTYPES.keys():
        raise ValueError(f"a sample's blob has the arrays {', '.join(content.arrays)[:80]}")
    if any(content.arrays[name][0] != 1 for name in ("logprobs", "rank", "censored")):
        raise ValueError("a sample's blob has an array of another width")
    arrays = {
        name: _unshuffle(*packed, _ARRAY_DTYPES[name], len(content.tokens)) for name, packed in content.arrays.items()
    }
    # Anyone may have written the file, so values are checked as well as types.
    logprobs = arrays["logprobs"][:, 0]
    if not (logprobs <= 0).all() or not np.isfinite(logprobs).all() or not are_logprobs(arrays["top"]):
        raise ValueError("a sample has invalid logprobs: NaN, infinite or above 0")
    if any(not np.isfinite(arrays[name]).all() for name in ("hidden", "projections") if name in arrays):
        raise ValueError("a sample has invalid hidden states or projections: NaN or infinite")
    return Completion(
        text=text,
        index=index,
        finish_reason=finish_reason,
        tokens=tuple(content.tokens),
        logprobs=logprobs,
        top_logprobs=restore_alternatives(arrays["top"], arrays["rank"][:, 0], logprobs),
        censored=arrays["censored"][:, 0],
        top_ids=arrays.get("ids"),
        hidden_states=arrays.get("hidden"),
        projections=arrays.get("projections"),
    )


def round_alternatives(top: F32, logprobs: F32) -> tuple[F16, NDArray[np.uint16]]:
    """Return alternatives (T, K) as float16, and the rank of each chosen token: the number of alternatives above it.

    An alternative that is the next float above the chosen logprob rounds as that one does, so that rounding what
    ``restore_alternatives()`` returned changes no bit.
    """
    chosen = logprobs[:, None]
    rank = np.count_nonzero(top > chosen, axis=1).astype(np.uint16)
    rounded = np.where(top == _next_above(chosen), chosen, top)
    return np.where(np.isneginf(rounded), -np.inf, np.maximum(rounded, MIN_FLOAT16)).astype(np.float16), rank


def restore_alternatives(top: F16, rank: NDArray[np.uint16], logprobs: F32) -> F32:
    """Restore the order of (T, K) float16 alternatives relative to the chosen token's float32 logprob.

    Alternatives that round to the chosen logprob become that logprob, or the next float above if they were above it.
    All others stay on their side of it, since rounding is monotone. Since nothing in ``top`` is NaN or above 0
    (``are_logprobs()``), its bits are compared, in a fifth of the time of float16 arithmetic.
    """
    bits = np.ascontiguousarray(top).view(np.uint16)
    restored = np.empty(top.shape, np.float32)
    rows = max(1, _BLOCK_VALUES // max(1, top.shape[1]))
    for start in range(0, len(top), rows):
        block = slice(start, start + rows)
        _restore_block(bits[block], rank[block], logprobs[block], out=restored[block])
    return restored


def _restore_block(bits: NDArray[np.uint16], rank: NDArray[np.uint16], logprobs: F32, *, out: F32) -> None:
    """Write the alternatives with these float16 bits into ``out``."""
    # Without the sign, and with an exponent that is too small by 112.
    wide = bits.astype(np.uint32)
    wide <<= 13
    wide &= 0x0FFFE000
    np.multiply(wide.view(np.float32), np.float32(-(2.0**112)), out=out)
    if bits.size and bits.max() == _NEGATIVE_INFINITY:
        out[bits == _NEGATIVE_INFINITY] = -np.inf
    if bits.size and bits.min() == 0:
        out[bits == 0] = 0.0
    chosen_bits = np.maximum(logprobs, MIN_FLOAT16).astype(np.float16).view(np.uint16)
    equal = np.flatnonzero((bits & _MAGNITUDE) == (chosen_bits & _MAGNITUDE)[:, None])
    row, position = np.divmod(equal, max(bits.shape[1], 1))
    chosen = logprobs[row]
    out.reshape(-1)[equal] = np.where(position < rank[row], _next_above(chosen), chosen)


def are_logprobs(top: F16) -> bool:
    """Return True if no value is NaN or above 0."""
    # Bits of negative NaNs are above those of minus infinity; those of positive ones, read as signed, above 0.
    return not top.size or bool(top.view(np.uint16).max() <= _NEGATIVE_INFINITY and top.view(np.int16).max() <= 0)


def _next_above(logprobs: F32) -> F32:
    return np.nextafter(logprobs, np.float32(np.inf))


def _shuffle(array: NDArray[Any], dtype: str) -> tuple[int, bytes]:
    """Return the width, and the bytes by column and by position within a number, which compress better."""
    columns = array[:, None] if array.ndim == 1 else array
    values = np.ascontiguousarray(columns.T.astype(dtype))
    planes = np.ascontiguousarray(values.view(np.uint8).reshape(values.size, values.itemsize).T)
    return columns.shape[1], planes.tobytes()


def _unshuffle(width: int, data: bytes, dtype: str, length: int) -> NDArray[Any]:
    """Undo ``_shuffle()``; return (length, width)."""
    size = np.dtype(dtype).itemsize
    # Without tokens no data proves the width, and numpy would fail at a huge one.
    if width < 0 or (not length and width > MAX_EMPTY_WIDTH) or len(data) != length * width * size:
        raise ValueError("a sample's blob has an array of another length")
    planes = np.frombuffer(data, np.uint8).reshape(size, length * width)
    return np.ascontiguousarray(np.ascontiguousarray(planes.T).view(dtype).reshape(width, length).T)

"""Columns with the texts, tokens and arrays of completions, to completions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from swift_client.dataset.sample_columns.arrays import Columns, as_matrix, as_numbers, join_lists, split_texts
from swift_client.store.packing import are_logprobs, restore_alternatives
from swift_client.types import Completion, FinishReason, ToolCall

_FINISH_REASONS = frozenset(get_args(FinishReason))


def decode_completions(columns: Columns, indices: Sequence[int]) -> list[Completion]:
    """Return the completion of each row. The columns of their thinking are a table of the same form.

    Raises:
        ValueError: a column is missing or has another type, or a value is invalid; or another error of Arrow or numpy.
    """
    arrow = columns.arrow
    finish_reasons: list[Any] = columns.required_texts("finish_reason")
    if unknown := set(finish_reasons) - _FINISH_REASONS:
        raise ValueError(f"there is the finish reason {str(next(iter(unknown)))[:40]!r}")
    token_texts, offsets = join_lists(arrow, columns.required("tokens"))
    logprobs = _decode_numbers(columns, "logprobs", arrow.float32(), offsets)
    if not (logprobs <= 0).all() or not np.isfinite(logprobs).all():
        raise ValueError("logprobs are NaN, infinite or above 0")
    rows = zip(
        columns.required_texts("text"),
        indices,
        finish_reasons,
        split_texts(arrow, token_texts, offsets),
        _split(logprobs, offsets),
        _split(_decode_alternatives(columns, logprobs, offsets), offsets),
        _split(_decode_numbers(columns, "censored", arrow.bool_(), offsets), offsets),
        _decode_matrices(columns, "top_ids", arrow.uint32(), offsets),
        _decode_matrices(columns, "hidden_states", arrow.float16(), offsets),
        _decode_matrices(columns, "projections", arrow.float32(), offsets),
        _decode_thinking(columns, indices),
        _decode_tool_calls(columns),
        columns.texts("answer_text"),
        strict=True,
    )
    return [
        Completion(
            text=text,
            index=index,
            finish_reason=finish_reason,
            tokens=tokens,
            logprobs=own_logprobs,
            top_logprobs=top,
            censored=censored,
            top_ids=ids,
            hidden_states=states,
            projections=projections,
            thinking=thinking,
            tool_calls=calls,
            answer_text=answer_text,
        )
        for (
            text, index, finish_reason, tokens, own_logprobs, top, censored, ids, states, projections, thinking, calls,
            answer_text,
        ) in rows
    ]  # fmt: skip


def _decode_alternatives(columns: Columns, logprobs: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[Any]:
    """Return the logprobs (S, K) of the alternatives, in their exact order around the chosen tokens' logprobs (S,)."""
    arrow = columns.arrow
    rows, own_offsets = join_lists(arrow, columns.required("top_logprobs"))
    _check_lengths("top_logprobs", own_offsets, np.diff(offsets))
    top = as_matrix(arrow, rows, arrow.float16())
    if not are_logprobs(top):
        raise ValueError("top_logprobs are NaN or above 0")
    return restore_alternatives(top, _decode_numbers(columns, "rank", arrow.uint16(), offsets), logprobs)


def _decode_numbers(columns: Columns, name: str, kind: Any, offsets: NDArray[np.int64]) -> NDArray[Any]:
    """Return one number per token of all completions, (S,)."""
    values, own_offsets = join_lists(columns.arrow, columns.required(name))
    _check_lengths(name, own_offsets, np.diff(offsets))
    return as_numbers(values, kind)


def _decode_matrices(columns: Columns, name: str, kind: Any, offsets: NDArray[np.int64]) -> list[NDArray[Any] | None]:
    """Return the array (T, width) of each completion, None for those without one. Widths may differ between them."""
    array = columns.array(name)
    if array is None:
        return [None] * (len(offsets) - 1)
    arrow = columns.arrow
    has_matrix = array.is_valid().to_numpy(zero_copy_only=False)
    rows, own_offsets = join_lists(arrow, array)
    _check_lengths(name, own_offsets, np.where(has_matrix, np.diff(offsets), 0))
    if arrow.types.is_fixed_size_list(rows.type):
        parts = _split(as_matrix(arrow, rows, kind), own_offsets)
    else:
        parts = [
            as_matrix(arrow, rows.slice(start, end - start), kind) for start, end in pairwise(own_offsets.tolist())
        ]
    if arrow.types.is_floating(kind) and not all(np.isfinite(part).all() for part in parts):
        raise ValueError(f"{name} are NaN or infinite")
    return [part if is_there else None for part, is_there in zip(parts, has_matrix.tolist(), strict=True)]


def _decode_thinking(columns: Columns, indices: Sequence[int]) -> list[Completion | None]:
    array = columns.array("thinking")
    result: list[Completion | None] = [None] * len(indices)
    if array is None:
        return result
    arrow = columns.arrow
    rows = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False)).tolist()
    table = arrow.Table.from_struct_array(array.drop_null())
    contents = decode_completions(Columns(arrow, table), [indices[row] for row in rows])
    for row, thinking in zip(rows, contents, strict=True):
        result[row] = thinking
    return result


def _decode_tool_calls(columns: Columns) -> list[tuple[ToolCall, ...]]:
    array = columns.array("tool_calls")
    if array is None:
        return [()] * len(columns.table)
    calls, offsets = join_lists(columns.arrow, array)
    if not len(calls):
        return [()] * len(columns.table)
    fields = Columns(columns.arrow, columns.arrow.Table.from_struct_array(calls))
    pairs = zip(fields.required_texts("name"), fields.required_texts("arguments"), strict=True)
    flat = [ToolCall(name=name, arguments=arguments) for name, arguments in pairs]
    return [tuple(flat[start:end]) for start, end in pairwise(offsets.tolist())]


def _split(values: NDArray[Any], offsets: NDArray[np.int64]) -> list[NDArray[Any]]:
    return [values[start:end] for start, end in pairwise(offsets.tolist())]


def _check_lengths(name: str, offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
    if not np.array_equal(np.diff(offsets), lengths):
        raise ValueError(f"{name} has more or fewer values than the completions have tokens")

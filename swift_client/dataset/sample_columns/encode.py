"""Samples to Arrow columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swift_client.dataset.sample_columns.schema import import_pyarrow, sample_schema
from swift_client.errors import ConfigurationError
from swift_client.store import Sample, StoredQuestion
from swift_client.store.packing import replace_surrogates, round_alternatives
from swift_client.store.records import to_json
from swift_client.types import Completion

Matrices = Sequence[NDArray[Any] | None]


def encode_samples(
    rows: Iterable[tuple[StoredQuestion, Sample]], *, provider: str, model: str | None, k: int | None = None
) -> Any:
    """Return samples as a ``pyarrow.Table`` of ``sample_schema(k)``, one row per sample, in their order.

    Args:
        rows: each sample with its question; those of one question one after the other.
        provider: name of the provider that they were drawn from.
        model: its model.
        k: alternatives per token; None: as many as the completion that lists the most.

    Raises:
        ConfigurationError: a completion lists more than ``k`` alternatives, or a value does not fit its column.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = import_pyarrow()
    pairs = list(rows)
    completions = [sample.completion for _, sample in pairs]
    schema = sample_schema(max(map(list_width, completions), default=0) if k is None else k)
    width = schema.field("top_logprobs").type.value_type.list_size
    # One string per question and not per row, since messages may be long.
    messages = {id(question): to_json(question.messages) for question, _ in pairs}
    values: dict[str, Any] = {
        "question": [question.id for question, _ in pairs],
        "index": [sample.index for _, sample in pairs],
        "messages": [messages[id(question)] for question, _ in pairs],
        "answer": [next(iter(_accepted_answers(question)), None) for question, _ in pairs],
        "answers": [_accepted_answers(question) for question, _ in pairs],
        "family": [question.family for question, _ in pairs],
        "label": [sample.label for _, sample in pairs],
        "verifier_scores": [list(sample.verifier_scores.items()) for _, sample in pairs],
        "seed": [sample.seed for _, sample in pairs],
        "cost": [sample.cost for _, sample in pairs],
        "mean_logprob": [sample.mean_logprob for _, sample in pairs],
        "tool_calls": [_tool_calls(completion) for completion in completions],
        "provider": [provider] * len(pairs),
        "model": [model] * len(pairs),
    }
    try:
        arrays = {name: arrow.array(column, schema.field(name).type) for name, column in values.items()}
        arrays |= _encode_contents(arrow, completions, width)
        arrays["answer_text"] = _encode_texts(arrow, [completion.answer_text for completion in completions])
        arrays["thinking"] = _encode_thinking(arrow, completions, schema.field("thinking").type, width)
        return arrow.Table.from_arrays([arrays[name] for name in schema.names], schema=schema)
    except (arrow.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise ConfigurationError(
            f"These samples cannot be written as columns: {error}.",
            hint="Correct that value, or write fewer samples at a time.",
        ) from error


def list_width(completion: Completion) -> int:
    """Return the length of the longest list of alternatives of a completion and of its thinking; 0 without tokens."""
    # An array without rows may have any width.
    width: int = completion.top_logprobs.shape[1] if completion.tokens else 0
    return width if completion.thinking is None else max(width, list_width(completion.thinking))


def _encode_thinking(arrow: Any, completions: Sequence[Completion], kind: Any, k: int) -> Any:
    """Return the column of structs, null for completions without thinking."""
    is_missing = np.array([completion.thinking is None for completion in completions], np.bool_)
    if is_missing.all():
        return arrow.nulls(len(completions), kind)
    contents = _encode_contents(arrow, [completion.thinking or Completion(text="") for completion in completions], k)
    fields = [kind.field(position) for position in range(kind.num_fields)]
    arrays = [contents[field.name] for field in fields]
    return arrow.StructArray.from_arrays(arrays, fields=fields, mask=arrow.array(is_missing))


def _encode_contents(arrow: Any, completions: Sequence[Completion], k: int) -> dict[str, Any]:
    """Return the columns with text, tokens and arrays of completions."""
    offsets = _offsets([len(completion.tokens) for completion in completions])
    logprobs = _join([completion.logprobs for completion in completions], np.float32)
    censored = _join([completion.censored for completion in completions], np.bool_)
    lists = [completion.top_logprobs for completion in completions]
    top, rank = round_alternatives(_join_rows(lists, k, np.float32, -np.inf), logprobs)
    lists_of = partial(arrow.ListArray.from_arrays, arrow.array(offsets, arrow.int32()))
    top_rows = arrow.FixedSizeListArray.from_arrays(arrow.array(top.ravel(), arrow.float16()), k)
    return {
        "text": _encode_texts(arrow, [completion.text for completion in completions]),
        "finish_reason": arrow.array([completion.finish_reason for completion in completions], arrow.string()),
        "tokens": lists_of(_encode_texts(arrow, list(chain.from_iterable(c.tokens for c in completions)))),
        "logprobs": lists_of(arrow.array(logprobs, arrow.float32())),
        "censored": lists_of(arrow.array(censored, arrow.bool_())),
        "top_logprobs": lists_of(top_rows),
        "rank": lists_of(arrow.array(rank, arrow.uint16())),
        "top_ids": _encode_matrices(arrow, [completion.top_ids for completion in completions], np.uint32, k),
        "projections": _encode_matrices(arrow, [completion.projections for completion in completions], np.float32, 2),
        "hidden_states": _encode_ragged(arrow, [completion.hidden_states for completion in completions]),
    }


def _encode_texts(arrow: Any, texts: Sequence[str | None]) -> Any:
    """Return a column of texts, in which a lone surrogate is a question mark, as in a samples file."""
    try:
        return arrow.array(texts, arrow.string())
    except UnicodeEncodeError:
        return arrow.array([None if text is None else replace_surrogates(text) for text in texts], arrow.string())


def _encode_matrices(arrow: Any, matrices: Matrices, dtype: type[np.generic], width: int) -> Any:
    """Return (T, width) arrays as a column of lists of fixed-size lists, null for None."""
    values = arrow.array(_join_rows(matrices, width, dtype, 0).ravel())
    return _encode_lists(arrow, matrices, arrow.FixedSizeListArray.from_arrays(values, width))


def _encode_ragged(arrow: Any, matrices: Matrices) -> Any:
    """Return (T, width) float16 arrays of any widths as a column of lists of lists, null for None."""
    arrays = [matrix for matrix in matrices if matrix is not None]
    offsets = _offsets(chain.from_iterable([matrix.shape[1]] * len(matrix) for matrix in arrays))
    values = _join([matrix.ravel() for matrix in arrays], np.float16)
    rows = arrow.ListArray.from_arrays(arrow.array(offsets, arrow.int32()), arrow.array(values))
    return _encode_lists(arrow, matrices, rows)


def _encode_lists(arrow: Any, matrices: Matrices, rows: Any) -> Any:
    offsets = _offsets(0 if matrix is None else len(matrix) for matrix in matrices)
    is_missing = arrow.array([matrix is None for matrix in matrices], arrow.bool_())
    return arrow.ListArray.from_arrays(arrow.array(offsets, arrow.int32()), rows, mask=is_missing)


def _join(arrays: Iterable[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype, copy=False)


def _join_rows(matrices: Matrices, width: int, dtype: type[np.generic], fill: float) -> NDArray[Any]:
    """Return the rows of (T, K) arrays as one (S, width) array, filled up with ``fill``.

    Raises:
        ConfigurationError: a column beyond ``width`` holds more than ``fill``.
    """
    offsets = _offsets(0 if matrix is None else len(matrix) for matrix in matrices)
    joined = np.full((offsets[-1], width), fill, dtype)
    for matrix, start in zip(matrices, offsets, strict=False):
        if matrix is None:
            continue
        if (matrix[:, width:] != fill).any():
            raise ConfigurationError(
                f"A completion lists {matrix.shape[1]} alternatives per token, more than {width}.",
                hint=f"Give k={matrix.shape[1]}, the same for all parts of a data set.",
            )
        columns = matrix[:, :width]
        joined[start : start + len(columns), : columns.shape[1]] = columns
    return joined


def _offsets(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *lengths])


def _tool_calls(completion: Completion) -> list[dict[str, str]]:
    return [
        {"name": replace_surrogates(call.name), "arguments": replace_surrogates(call.arguments)}
        for call in completion.tool_calls
    ]


def _accepted_answers(question: StoredQuestion) -> tuple[str, ...]:
    answer = question.answer
    return () if answer is None else (answer,) if isinstance(answer, str) else answer

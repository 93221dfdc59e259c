"""Arrow schema of samples."""

from __future__ import annotations

from typing import Any

from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.store.packing import MAX_EMPTY_WIDTH

_REPEATED_TEXTS = ("question", "messages", "answer", "answers.list.element", "family", "provider", "model")
_TEXTS = ("text", "finish_reason", "tokens.list.element")
_BYTE_PLANES = ("logprobs.list.element", "top_logprobs.list.element.list.element")
_NUMBERS = ("rank.list.element", "top_ids.list.element.list.element")


def _with_thinking(*names: str) -> tuple[str, ...]:
    return (*names, *(f"thinking.{name}" for name in names))


def import_pyarrow(purpose: str = "Reading and writing samples as Parquet") -> Any:
    """Return the library. Raises MissingExtraError if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as missing:
        raise MissingExtraError.needs("parquet", purpose) from missing
    return pyarrow


def sample_schema(k: int) -> Any:
    """Return the ``pyarrow.Schema`` of samples, of which ``encode_samples()`` and ``decode_samples()`` are the forms.

    Args:
        k: alternatives per token, the length of the fixed-size lists; 0 becomes 1, since Parquet has no empty ones.

    Raises:
        ConfigurationError: ``k`` is negative or above 1,048,576.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = import_pyarrow()
    if not 0 <= k <= MAX_EMPTY_WIDTH:
        raise ConfigurationError(
            f"Samples cannot have {k} alternatives per token.", hint="Give k as 0 to 20, as requested."
        )
    text = arrow.string()
    content = _content_fields(arrow, max(k, 1))
    return arrow.schema(
        {
            "question": text,
            "index": arrow.int32(),
            "messages": text,
            "answer": text,
            "answers": arrow.list_(text),
            "family": text,
            "text": text,
            "finish_reason": text,
            "label": arrow.float32(),
            "verifier_scores": arrow.map_(text, arrow.float64()),
            "seed": arrow.int64(),
            "cost": arrow.float64(),
            **content,
            "mean_logprob": arrow.float64(),
            "answer_text": text,
            "tool_calls": arrow.list_(arrow.struct({"name": text, "arguments": text})),
            "thinking": arrow.struct({"text": text, "finish_reason": text, **content}),
            "provider": text,
            "model": text,
        }
    )


def _content_fields(arrow: Any, k: int) -> dict[str, Any]:
    """Return the types of the columns with the tokens and arrays of a completion, or of its thinking."""
    return {
        "tokens": arrow.list_(arrow.string()),
        "logprobs": arrow.list_(arrow.float32()),
        "censored": arrow.list_(arrow.bool_()),
        "top_logprobs": arrow.list_(arrow.list_(arrow.float16(), k)),
        "top_ids": arrow.list_(arrow.list_(arrow.uint32(), k)),
        "rank": arrow.list_(arrow.uint16()),
        "projections": arrow.list_(arrow.list_(arrow.float32(), 2)),
        "hidden_states": arrow.list_(arrow.list_(arrow.float16())),
    }


def open_writer(where: Any, schema: Any, *, filesystem: Any = None) -> Any:
    """Return a ``pyarrow.parquet.ParquetWriter`` with the encodings that suit samples.

    Args:
        where: a path, or a file that is open for writing.
        schema: ``sample_schema()`` or a part of it.
        filesystem: the pyarrow file system of the path.
    """
    # A dictionary is for values that return; planes of bytes make logprobs a fifth smaller, and faster to read.
    return import_pyarrow().parquet.ParquetWriter(
        where,
        schema,
        filesystem=filesystem,
        compression="zstd",
        use_dictionary=[*_REPEATED_TEXTS, *_with_thinking(*_TEXTS[1:], *_NUMBERS), "verifier_scores.key_value.key"],
        use_byte_stream_split=list(_with_thinking(*_BYTE_PLANES)),
    )

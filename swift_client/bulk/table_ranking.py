"""Arrow tables in, Arrow tables out: the function that workers on all machines call (extra ``parquet``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from swift_client.bulk.rank_questions import rank_reply, rank_samples
from swift_client.bulk.ranked_row import RankedRow
from swift_client.bulk.selection_columns import to_table
from swift_client.bulk.settings import RankSettings
from swift_client.dataset.sample_columns import group_samples, import_pyarrow
from swift_client.dataset.sample_columns.arrays import Columns, find_run_starts, refuse_invalid
from swift_client.errors import ConfigurationError

REPLY = "reply"
"""Column that tells rows of replies from rows of samples."""
_REQUIRED = (
    "question",
    "index",
    "messages",
    "text",
    "finish_reason",
    "tokens",
    "logprobs",
    "censored",
    "top_logprobs",
    "rank",
)
REPLY_COLUMNS = (REPLY, "id", "prompt", "messages")
# Columns that no choice depends on.
_UNREAD = ("answer", "answers", "family", "label", "verifier_scores", "seed", "cost", "mean_logprob")
_ROWS_AT_ONCE = 128  # samples that are decoded together: enough to share the work, few enough for the cache


def rank_table(table: Any, settings: RankSettings) -> Any:
    """Rank the questions of a table, each as ``rank()`` does; return one row per question, in their order.

    Args:
        table: a ``pyarrow.Table`` or record batch of samples (``swift_client.dataset.sample_columns.sample_schema()``),
            all rows of a question next to each other; or of replies, with a column ``reply`` (text, bytes, or a list of
            these: raw replies to one question), and if known ``id``, and ``prompt`` (text) or ``messages`` (JSON).
        settings: the rules.

    Returns:
        A table of ``selection_schema()``. A question that cannot be ranked has an ``error``.

    Raises:
        ConfigurationError: the table has neither the columns of samples nor ``reply``.
        MissingExtraError: pyarrow is not installed.
    """
    return to_table(rank_rows(table, settings))


def rank_rows(table: Any, settings: RankSettings) -> list[RankedRow]:
    """Return the rows of ``rank_table()``."""
    if REPLY in table.schema.names:
        batches = import_pyarrow().Table.from_batches([table]) if not hasattr(table, "to_batches") else table
        return [
            _rank_reply_row(row, settings)
            for batch in batches.to_batches(max_chunksize=_ROWS_AT_ONCE)
            for row in batch.to_pylist()
        ]
    check_sample_columns(table.schema)
    names = columns_to_read(table.schema.names, settings)
    table = table.select([position for position, name in enumerate(table.schema.names) if name in names])
    starts = find_starts(table)
    return [row for part in _split(table, starts) for row in _rank_part(part, settings)]


def check_sample_columns(schema: Any) -> None:
    """Raise ConfigurationError unless a schema has the columns that ranking needs."""
    require_sample_columns(schema.names)
    types = import_pyarrow().types
    kind = schema.field("question").type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise ConfigurationError(f"The column 'question' is of type {kind}, not text.", hint="Convert it to text.")


def require_sample_columns(names: Sequence[str]) -> None:
    """Raise ConfigurationError unless the columns of these names are enough to rank samples."""
    if missing := [name for name in _REQUIRED if name not in names]:
        raise ConfigurationError(
            f"The table has no column {REPLY!r}, and of samples it lacks {', '.join(missing)}.",
            hint="Write samples with `swift-client collect --parquet`, or give replies in a column 'reply'.",
        )


def columns_to_read(names: Sequence[str], settings: RankSettings) -> list[str]:
    """Return the columns of samples that a choice depends on, of those with these names."""
    unread = {*_UNREAD}
    if not settings.reads_token_ids:
        unread.add("top_ids")
    if not settings.reads_hidden_states:
        unread |= {"hidden_states", "projections"}
    return [name for name in names if name not in unread]


def find_starts(table: Any) -> list[int]:
    """Return the first row of each run of rows of one question, and the number of rows at the end."""
    arrow = import_pyarrow()
    with refuse_invalid(arrow):
        return find_run_starts(Columns(arrow, table).texts("question"))


def _split(table: Any, starts: list[int]) -> Iterator[Any]:
    """Yield parts of whole questions, without copies."""
    first = 0
    for end, following in pairwise([*starts[1:], 0]):
        if end - first >= _ROWS_AT_ONCE or not following:
            yield table.slice(first, end - first)
            first = end


def _rank_part(table: Any, settings: RankSettings) -> list[RankedRow]:
    try:
        groups = list(group_samples(table))
        sources = _read_sources(table, settings)
    except ConfigurationError as error:
        starts = find_starts(table)
        if len(starts) <= 2:  # one question
            return [RankedRow.of_error(_text_or_none(table.column("question")[0]), error)]
        return [row for start, end in pairwise(starts) for row in _rank_part(table.slice(start, end - start), settings)]
    rows, start = [], 0
    for question, samples in groups:
        end = start + len(samples)
        if len(set(sources[start:end])) > 1:
            reason = f"Question {question.id!r} has samples of several models. Rank those of each model on their own."
            rows.append(RankedRow.of_error(question.id, reason))
        else:
            provider, model = sources[start]
            rows.append(rank_samples(question, samples, settings, provider=provider, model=model))
        start = end
    return rows


def _read_sources(table: Any, settings: RankSettings) -> list[tuple[str, str | None]]:
    """Return (provider, model) of each row; those of the settings if the table does not say them."""
    names = table.schema.names
    providers = table.column("provider").to_pylist() if "provider" in names else [None] * len(table)
    models = table.column("model").to_pylist() if "model" in names else [None] * len(table)
    return [
        (settings.provider, settings.model) if provider is None else (str(provider), _text_or_none(model))
        for provider, model in zip(providers, models, strict=True)
    ]


def _rank_reply_row(row: dict[str, Any], settings: RankSettings) -> RankedRow:
    question = _text_or_none(row.get("id"))
    prompt, messages = row.get("prompt"), row.get("messages")
    if isinstance(messages, str):
        try:
            messages = json.loads(messages)
        except (ValueError, RecursionError) as error:
            return RankedRow.of_error(question, f"The messages are not JSON: {error}.")
    return rank_reply(question, row[REPLY], settings, prompt if messages is None else messages)


def _text_or_none(value: Any) -> str | None:
    value = value.as_py() if hasattr(value, "as_py") else value
    return None if value is None else str(value)

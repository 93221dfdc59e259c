"""``rank_dataset``: the choice for each stored question of a ``ray.data.Dataset``, on all machines of a cluster.

Ray cuts a dataset into blocks anywhere, also within a question. So a task ranks the questions that lie inside its
block, and passes the rows of the first and the last one on, which may go on in another block. These are small parts of
the data; they are joined by question, together with the rows of choices, and ranked then.
"""

from __future__ import annotations

import zlib
from functools import partial
from typing import Any

from swift_client.adapters import Provider
from swift_client.answers import Spec
from swift_client.bulk import RankSettings, rank_table, selection_schema
from swift_client.bulk.selection_columns import from_ipc, to_ipc, to_table
from swift_client.bulk.sources.source import Kind
from swift_client.bulk.table_ranking import REPLY, check_sample_columns, find_starts, rank_rows, require_sample_columns
from swift_client.errors import ConfigurationError
from swift_client.models.resolve_head import Head
from swift_client.ray.cluster import import_ray
from swift_client.scoring.result import UserSimilarity
from swift_client.selection.select import FALLBACK_SCORER, Scorer
from swift_client.types import Method

_SAMPLES, _BUCKET = (
    "__samples",
    "__bucket",
)  # columns between the two steps: rows passed on, and the group of a question
_N_BUCKETS = 1024  # groups of questions of the second step, which are joined one at a time
_PARTITIONS_PER_CORE = 2  # parts of the second step's rows, each of which is one task and fits into a worker's memory


def rank_dataset(
    dataset: Any,
    *,
    kind: Kind = "auto",
    head: Head = None,
    scorer: Scorer = FALLBACK_SCORER,
    answer: Spec = "auto",
    select: Method = "auto",
    similarity: str | UserSimilarity | None = None,
    provider: str | Provider = "openai",
) -> Any:
    """Choose among the completions of each question of a dataset, as ``rank()`` does. Nothing is sent.

    Args:
        dataset: a ``ray.data.Dataset`` with rows of samples or of replies, with the columns of ``rank_table()``. The
            samples of a question are next to each other; in Parquet in one row group, as this package writes them,
            since Ray reads row groups in any order.
        kind: what the rows are; "auto" looks at the columns, for which Ray may have to compute the first rows.
        head: as for ``rank()``; read here, so that the workers need no file. So are ``scorer``, ``answer``, ``select``
            and ``similarity``.
        scorer: see ``head``.
        answer: see ``head``.
        select: see ``head``.
        similarity: see ``head``.
        provider: as for ``rank()``, for rows that do not say their provider.

    Returns:
        A dataset with one row per question and the columns of ``selection_schema()``, in any order. The rows equal
        those of ``rank_files()`` to the last bit.

    Raises:
        ConfigurationError: an argument is wrong. When the dataset is read, as the cause of Ray's error: the columns are
            wrong, or the rows of a question are not next to each other.
        ArtifactError: the head cannot be read.
        MissingExtraError: Ray is not installed.
    """
    ray = import_ray()
    settings = RankSettings.create(
        head=head, scorer=scorer, answer=answer, select=select, similarity=similarity, provider=provider
    )
    names = dataset.columns() or () if kind == "auto" else ()
    if kind == "replies" or REPLY in names:
        return _map(dataset, partial(rank_table, settings=settings))
    if names:  # an empty dataset has none
        require_sample_columns(names)
    ranked = _map(dataset, partial(_rank_block, settings=settings))
    n_partitions = _PARTITIONS_PER_CORE * max(1, int(ray.cluster_resources().get("CPU", 1)))
    return ranked.groupby(_BUCKET, num_partitions=n_partitions).map_groups(
        partial(_join_bucket, settings=settings), batch_format="pyarrow"
    )


def _map(dataset: Any, function: Any) -> Any:
    """Apply a function to whole blocks, whose memory is shared with the object store."""
    return dataset.map_batches(function, batch_size=None, batch_format="pyarrow", zero_copy_batch=True)


def _rank_block(table: Any, settings: RankSettings) -> Any:
    """Rank the questions inside a block; the rows of its first and last one become binary values."""
    import pyarrow

    if not len(table):
        return pyarrow.Table.from_pylist([], _ranked_schema())
    check_sample_columns(table.schema)
    starts = find_starts(table)
    ends = [(starts[0], starts[1]), (starts[-2], starts[-1])][: len(starts) - 1]
    inner = table.slice(starts[1], max(0, starts[-2] - starts[1]))
    finished = to_table(rank_rows(inner, settings))
    rows = [
        {"question": table.column("question")[start].as_py(), _SAMPLES: to_ipc(table.slice(start, end - start))}
        for start, end in ends
    ]
    names = [*finished.column("question").to_pylist(), *(row["question"] for row in rows)]
    joined = pyarrow.concat_tables([finished, pyarrow.Table.from_pylist(rows)], promote_options="default")
    buckets = pyarrow.array([_bucket(name) for name in names], pyarrow.int32())
    return joined.append_column(_BUCKET, buckets).select(_ranked_schema().names).cast(_ranked_schema())


def _join_bucket(table: Any, settings: RankSettings) -> Any:
    """Rank the questions of a bucket whose rows were passed on, and return them with those that have their row."""
    import pyarrow

    was_passed_on = table.column(_SAMPLES).is_valid()
    finished = table.filter(pyarrow.compute.invert(was_passed_on)).select(selection_schema().names)
    names: set[Any] = set()
    for name in finished.column("question").to_pylist():
        _require_adjacent(name, names)
        names.add(name)
    pieces: dict[Any, list[Any]] = {}
    waiting = table.filter(was_passed_on).select(["question", _SAMPLES])
    for name, data in zip(*(column.to_pylist() for column in waiting.columns), strict=True):
        _require_adjacent(name, names)
        pieces.setdefault(name, []).append(from_ipc(data))
    rows = [
        row
        for tables in pieces.values()
        for row in rank_rows(pyarrow.concat_tables(tables, promote_options="default"), settings)
    ]
    return pyarrow.concat_tables([finished.cast(selection_schema()), to_table(rows)])


def _require_adjacent(name: object, finished_names: set[Any]) -> None:
    """Raise ConfigurationError if a question that has its row has further rows elsewhere."""
    if name in finished_names:
        raise ConfigurationError(
            f"The rows of question {name!r} are not next to each other.",
            hint='Sort the dataset first, in Python: rank_dataset(dataset.sort("question")). After several runs of '
            "`collect --ray` into one folder the rows of a question may be in several files.",
        )


def _bucket(name: object) -> int:
    return zlib.crc32(str(name).encode("utf-8", "surrogatepass")) % _N_BUCKETS


def _ranked_schema() -> Any:
    import pyarrow

    return (
        selection_schema()
        .append(pyarrow.field(_SAMPLES, pyarrow.large_binary()))
        .append(pyarrow.field(_BUCKET, pyarrow.int32()))
    )

"""The part of ``rank`` that works on a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from swift_client.cli import output, progress
from swift_client.cli.cluster.option import cluster, find_address, is_parquet
from swift_client.cli.error_facts import PROVIDER
from swift_client.dataset.sample_columns import import_pyarrow
from swift_client.errors import ConfigurationError
from swift_client.ray.folder import Folder
from swift_client.ray.rank import rank_dataset

_CHOICES = "choices"  # the folder of the choices within --out


def rank_on_cluster(
    source: Path,
    out: Path,
    *,
    kind: Literal["samples", "replies"],
    address: str,
    as_json: bool,
    settings: Mapping[str, Any],
) -> int:
    """Rank the questions of a file or folder into a new folder, and return the exit code.

    Args:
        source: a Parquet file or folder, or JSON lines of replies.
        out: the folder, or its URL.
        kind: what ``source`` contains.
        address: of the cluster, as of ``--ray``.
        as_json: print one JSON document.
        settings: further arguments of ``rank_dataset()``.

    Raises:
        ConfigurationError: a setting or the source is wrong, or the folder has choices already.
    """
    folder = Folder(find_address(out))
    if folder.list_files(_CHOICES, ".parquet"):
        raise ConfigurationError(f"{folder} has choices already.", hint="Give another folder.")
    if kind == "samples" and not is_parquet(source):
        raise ConfigurationError(
            "--ray reads samples from Parquet only.",
            hint="Such as the folder of `collect --ray`, or `collect --parquet`.",
        )
    with cluster(address) as ray, progress.show_status("ranking …"):
        if is_parquet(source):
            dataset = ray.data.read_parquet(find_address(source))
        else:
            dataset = ray.data.read_text(find_address(source)).map_batches(_parse_replies, batch_format="pyarrow")
        choices = rank_dataset(dataset, kind=kind, **settings)
        choices.write_parquet(folder.address(_CHOICES), filesystem=folder.file_system)
    n_questions, n_failed = _count(folder)
    if as_json:
        output.print_json({"path": str(folder), "questions": n_questions, "failed": n_failed})
    else:
        output.show(output.safe(f"{folder}: the choices for {n_questions - n_failed:,} questions."))
    if n_failed:
        output.warn(f"{n_failed:,} questions could not be ranked; the column error in {folder} says why.")
    return PROVIDER if n_failed else 0


def _parse_replies(table: Any) -> Any:
    """Return lines of replies as the columns that ``rank_dataset`` reads."""
    rows = []
    for text in table.column("text").to_pylist():
        try:
            line = json.loads(text)
            reply = line["reply"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigurationError(
                f"A line of the replies is not a JSON object with a reply: {error!r}.",
                hint='A line is {"id": "q1", "reply": {...}}.',
            ) from error
        messages = line.get("messages")
        rows.append(
            {
                "id": None if line.get("id") is None else str(line["id"]),
                "reply": [json.dumps(part) for part in (reply if isinstance(reply, list) else [reply])],
                "prompt": line.get("prompt"),
                "messages": None if messages is None else json.dumps(messages),
            }
        )
    arrow = import_pyarrow("Work on a cluster")
    text_type = arrow.string()
    columns = {"id": text_type, "reply": arrow.list_(text_type), "prompt": text_type, "messages": text_type}
    return arrow.Table.from_pylist(rows, arrow.schema(columns))


def _count(folder: Folder) -> tuple[int, int]:
    """Return the number of questions, and of those that could not be ranked."""
    arrow = import_pyarrow("Work on a cluster")
    n_questions = n_failed = 0
    for name in folder.list_files(_CHOICES, ".parquet"):
        path = folder.address(name)
        table = arrow.parquet.read_table(path, filesystem=folder.file_system, columns=["error"], partitioning=None)
        n_questions += len(table)
        n_failed += len(table) - table.column("error").null_count
    return n_questions, n_failed

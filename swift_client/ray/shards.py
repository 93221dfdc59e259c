"""Shards: files of whole questions in ``samples/``, with what they cost in their metadata."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from swift_client.dataset.sample_columns import encode_samples, import_pyarrow, sample_schema
from swift_client.dataset.sample_columns.cut_rows import cut_rows
from swift_client.dataset.sample_columns.schema import open_writer
from swift_client.errors import ConfigurationError
from swift_client.ray.buffer import Rows
from swift_client.ray.folder import Folder
from swift_client.store import Meta
from swift_client.types import MAX_TOKEN_COUNT, Usage

SAMPLES = "samples"  # the folder of the shards
_METADATA_KEY = b"swift_client.shard"


class ShardFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens, requests and cost of a shard's completions; stored as JSON in its metadata."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    estimated: bool = False
    cost: float | None = 0.0

    @property
    def usage(self) -> Usage:
        """The tokens and requests."""
        return Usage(
            prompt_tokens=_limit(self.prompt_tokens),
            completion_tokens=_limit(self.completion_tokens),
            calls=_limit(self.calls),
            estimated=self.estimated,
        )


def shard_name(run: str, batch: int, number: int) -> str:
    """Return the name of a shard: a batch of the same run has the same names, whichever worker writes them."""
    return f"{SAMPLES}/part-{run}-{batch:08d}-{number:03d}.parquet"


def encode_shard(rows: Rows, *, meta: Meta) -> memoryview:
    """Return samples as the bytes of a shard."""
    schema = sample_schema(meta.top_logprobs)
    facts = ShardFacts(
        prompt_tokens=rows.usage.prompt_tokens,
        completion_tokens=rows.usage.completion_tokens,
        calls=rows.usage.calls,
        estimated=rows.usage.estimated,
        cost=rows.cost,
    )
    metadata = {_METADATA_KEY: msgspec.json.encode(facts)}
    sink = io.BytesIO()
    with open_writer(sink, schema.with_metadata(metadata)) as writer:
        for part in cut_rows(rows.samples):
            table = encode_samples(part, provider=meta.provider, model=meta.model, k=meta.top_logprobs)
            writer.write_table(table.replace_schema_metadata(metadata))
    return sink.getbuffer()


@contextmanager
def open_shard(folder: Folder, name: str) -> Iterator[tuple[Any, ShardFacts]]:
    """Open a shard as ``pyarrow.parquet.ParquetFile``, with its facts.

    Raises:
        ConfigurationError: it cannot be read.
    """
    arrow = import_pyarrow()
    try:
        file = arrow.parquet.ParquetFile(folder.address(name), filesystem=folder.file_system)
        text = (file.schema_arrow.metadata or {}).get(_METADATA_KEY)
        facts = ShardFacts(cost=None) if text is None else msgspec.json.decode(text, type=ShardFacts)
    except (arrow.ArrowException, OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(
            f"{folder}/{name} is not a shard of samples: {error}.", hint="Move it out of the folder."
        ) from error
    with file:
        yield file, facts


def _limit(count: int) -> int:
    return min(max(0, count), MAX_TOKEN_COUNT)

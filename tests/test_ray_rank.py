"""Ranking datasets of Ray Data: wherever Ray cuts the rows, the choices are those of one process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from swift_client.bulk import RankSettings, rank_table, selection_schema
from swift_client.dataset.export_parquet import export_parquet
from swift_client.errors import ConfigurationError
from swift_client.models import HeadArtifact, ResponseWeights
from swift_client.models.library import PACKAGED_FOLDER
from swift_client.models.resolve_head import load_head
from swift_client.ray import rank_dataset
from swift_client.ray.cluster import own_error
from tests.children import ROOT
from tests.ray_clusters import local_cluster
from tests.stored_samples import reply_of, write_samples


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with local_cluster() as ray:
        yield ray


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> pyarrow.Table:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder / "s.db", questions=12, n=4)
    export_parquet(folder / "s.db", folder / "s.parquet")
    return pyarrow.parquet.read_table(folder / "s.parquet")


@pytest.fixture(scope="module")
def head() -> HeadArtifact:
    """A head whose scores depend on the other completions of the question."""
    packaged = load_head(PACKAGED_FOLDER / "pocket.safetensors")
    old = packaged.response
    response = ResponseWeights(
        mean=[*old.standardizer.mean, 0.5], scale=[*old.standardizer.scale, 0.3], weight=[*old.weight, 1.5]
    )
    return replace(packaged, response_terms=(*packaged.response_terms, "agreement"), response=response)


def rows_of(dataset: Any) -> pyarrow.Table:
    """Return the rows of a dataset, sorted by question."""
    blocks = list(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))
    return pyarrow.concat_tables(blocks).combine_chunks().sort_by("question")


@pytest.mark.parametrize("rows_per_block", [3, 1000])
def test_rows_equal_the_local_ones_to_the_last_bit(
    ray: Any, samples: pyarrow.Table, head: HeadArtifact, rows_per_block: int
) -> None:
    blocks = [samples.slice(start, rows_per_block) for start in range(0, len(samples), rows_per_block)]

    ranked = rank_dataset(ray.data.from_arrow(blocks), head=head)

    expected = rank_table(samples, RankSettings.create(head=head)).sort_by("question")
    result = rows_of(ranked)
    assert result.schema.equals(selection_schema())
    assert result.equals(expected)
    assert len(expected.filter(pyarrow.compute.field("error").is_null())) == len(expected) == 11


def test_parquet_files_are_ranked_into_parquet_files(ray: Any, samples: pyarrow.Table, tmp_path: Path) -> None:
    for number in range(3):
        part = samples.slice(16 * number, 16)
        pyarrow.parquet.write_table(part, tmp_path / f"{number}.parquet", row_group_size=8)

    page = (ROOT / "docs/guides/stored-replies.md").read_text()
    code = next(block for block in page.split("```text\n") if block.startswith("import ray")).partition("```")[0]
    code = code.replace("s3://bucket/samples/", str(tmp_path)).replace("s3://bucket/choices/", str(tmp_path / "out"))
    exec(code, {})  # noqa: S102 - it stands in our own page

    expected = rank_table(samples, RankSettings.create(head="auto")).sort_by("question")
    assert pyarrow.parquet.read_table(tmp_path / "out", schema=selection_schema()).sort_by("question").equals(expected)


def test_a_question_in_two_places_is_an_error_that_says_to_sort(ray: Any, samples: pyarrow.Table) -> None:
    scattered = ray.data.from_arrow([samples, samples.slice(4, 4)])

    with pytest.raises(Exception) as caught:  # noqa: PT011 - of Ray
        rank_dataset(scattered).materialize()

    error = own_error(caught.value)
    assert isinstance(error, ConfigurationError)
    assert "'q1' are not next to each other" in error.message
    assert "sort" in error.hint
    assert len(rows_of(rank_dataset(ray.data.from_arrow([samples]).random_shuffle(seed=1).sort("question")))) == 11


def test_rows_of_replies_are_ranked_one_by_one(ray: Any) -> None:
    rows = [{"id": f"r{n}", "reply": json.dumps(reply_of("The answer is 4", f"It is {n}"))} for n in range(10)]
    rows += [{"id": "r0", "reply": "{"}]

    result = rows_of(rank_dataset(ray.data.from_items(rows, override_num_blocks=2)))

    expected = rank_table(pyarrow.Table.from_pylist(rows), RankSettings.create()).sort_by("question")
    assert result.sort_by([("question", "ascending"), ("n", "ascending")]).equals(
        expected.sort_by([("question", "ascending"), ("n", "ascending")])
    )


def test_wrong_rules_are_refused_before_ray_works(ray: Any) -> None:
    with pytest.raises(ConfigurationError, match="Unknown scorer"):
        rank_dataset(ray.data.range(1), scorer="nothing")


def test_wrong_columns_are_an_error_that_names_them(ray: Any) -> None:
    with pytest.raises(ConfigurationError, match="lacks question"):
        rank_dataset(ray.data.range(3))

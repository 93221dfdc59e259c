"""``collect_dataset``: samples of the questions of a ``ray.data.Dataset``, as another dataset."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from swift_client.dataset.sample_columns import encode_samples
from swift_client.errors import ConfigurationError
from swift_client.ray.cluster import import_ray
from swift_client.ray.collect import collect_shards
from swift_client.ray.job import CollectJob, HiddenJob, plan_job
from swift_client.ray.questions import read_questions
from swift_client.ray.run import QUESTIONS_PER_SLOT
from swift_client.ray.worker import CollectWorker
from swift_client.store import StoredQuestion


def collect_dataset(dataset: Any, *, out: str | os.PathLike[str] | None = None, **settings: Any) -> Any:
    """Collect completions of a dataset's questions; return them as ``ray.data.Dataset``.

    With ``out`` it collects at once, as ``collect_shards``, and returns what the folder holds. Without, it collects
    whenever the dataset is read: nothing is stored, a worker that is killed pays for its batch again, and questions
    that fail are only logged.

    Args:
        dataset: a ``ray.data.Dataset``; columns as of ``collect_shards``.
        out: the folder for samples, or None.
        settings: the other arguments of ``collect_shards``, by name.

    Returns:
        A dataset with one row per completion and the columns of ``dataset.sample_columns``.

    Raises:
        SwiftClientError: with ``out``, as ``collect_shards``. Without, Ray raises it as the cause of its own error.
    """
    if out is not None:
        return collect_shards(dataset, out, **settings).dataset()
    if settings.pop("on_progress", None) is not None:
        raise ConfigurationError("on_progress needs out: without it nothing runs yet.")
    ray = import_ray()
    job, pool = plan_job(**settings)
    return dataset.map_batches(
        _SampleBatches,
        fn_constructor_kwargs={"hidden": HiddenJob(job)},
        batch_size=QUESTIONS_PER_SLOT * job.max_concurrency,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=pool.size),
        **pool.options,
    )


class _SampleBatches:
    """The function of ``map_batches``: tables of questions to tables of samples."""

    def __init__(self, hidden: HiddenJob[CollectJob]) -> None:
        self._worker = CollectWorker(hidden.job)
        self._meta = hidden.job.create_setup().meta

    async def __call__(self, table: Any) -> AsyncIterator[Any]:
        """Yield the samples of a table's questions; wrong rows have none."""
        rows = [row for row in read_questions([table]) if isinstance(row, StoredQuestion)]
        samples = (await self._worker.sample({question.id: question for question in rows})).samples
        meta = self._meta
        yield encode_samples(samples, provider=meta.provider, model=meta.model, k=meta.top_logprobs)

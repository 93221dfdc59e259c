"""``collect_shards``: completions of many questions, collected by all machines of a cluster and paid once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from swift_client.adapters import CustomProvider, Provider
from swift_client.adapters.transport.api_key import ApiKey
from swift_client.collect.result import CollectProgress, CollectResult
from swift_client.collect.setup import Prices
from swift_client.dataset.sample_columns import encode_samples
from swift_client.errors import ConfigurationError
from swift_client.pricing import add_costs
from swift_client.ray.cluster import import_ray
from swift_client.ray.folder import Folder
from swift_client.ray.job import plan_job
from swift_client.ray.limits_actor import LIMITS
from swift_client.ray.questions import read_questions
from swift_client.ray.run import ClusterRun
from swift_client.ray.run_folder import SETTINGS, begin_folder, end_run, lock_folder, take_over
from swift_client.ray.shards import SAMPLES


@dataclass(frozen=True, kw_only=True)
class ShardsResult(CollectResult):
    """The samples added by a run on a cluster, and the state of its folder.

    Attributes:
        lost_in_flight: The most completions that were under way when workers or drivers were killed, in all runs: they
            may have been paid for, and were requested again.
        lost_cost: The most that these cost; None if that is unknown. It counts towards ``max_cost``.
        folder: The folder.
    """

    lost_in_flight: int = 0
    lost_cost: float | None = 0.0
    folder: Folder = field(repr=False)

    def dataset(self) -> Any:
        """Return the samples as ``ray.data.Dataset``, with the columns of ``dataset.sample_columns``."""
        folder = self.folder
        if not folder.list_files(SAMPLES, ".parquet"):
            settings = json.loads(folder.read(SETTINGS) or b"{}")
            names = {"provider": "provider", "model": "model", "k": "top_logprobs"}
            return import_ray().data.from_arrow(encode_samples([], **{key: settings[names[key]] for key in names}))
        return import_ray().data.read_parquet(folder.address(SAMPLES), filesystem=folder.file_system)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return {name: value for name, value in super().to_dict().items() if name != "folder"}


def collect_shards(
    questions: Any,
    out: str | os.PathLike[str],
    *,
    provider: str | Provider | CustomProvider,
    model: str | None = None,
    n: int = 16,
    top_logprobs: int | None = None,
    require_logprobs: bool = True,
    token_ids: bool = True,
    prices: Prices | None = None,
    max_cost: float | None = None,
    max_requests: int | None = None,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    limits: str | None = None,
    workers: int = 2,
    concurrency: int = 16,
    worker_options: dict[str, Any] | None = None,
    commit_seconds: float = 10.0,
    seed: int | None = None,
    base_url: str | None = None,
    api_key: ApiKey | None = None,
    timeout: float = 60.0,
    max_retries: int = 2,
    on_progress: Callable[[CollectProgress], None] | None = None,
    **sampling: Any,
) -> ShardsResult:
    """Collect ``n`` completions per question in Parquet files in the folder ``out``, with the actors of a cluster.

    Completions are stored every few seconds, and those that are stored are not requested again: not by a worker that
    replaces a killed one, nor by the next run. Those that were under way are counted in ``lost_in_flight``. A question
    asks for the same completions as by ``collect``. One run at a time writes to a folder.

    Args:
        questions: a ``ray.data.Dataset`` with the columns "prompt" or "messages" (JSON, or a list of structs), and
            optionally "id" (default: a digest of the prompt), "answer" or "answers" and "family"; or any iterable of
            StoredQuestion. Ids are unique; a row that is wrong is in ``failures``.
        out: the folder: a path, or a URL that pyarrow or fsspec knows, such as "s3://bucket/run7". Created if it does
            not exist, else continued.
        provider: as for ``collect``, like the arguments that are not listed here. An object of your own must be
            picklable.
        max_cost: limit on the cost of the whole folder; needs prices, and ``max_tokens`` among the sampling fields.
        max_requests: limit on the requests of this run.
        requests_per_minute: limit of all workers together, or None.
        tokens_per_minute: likewise, for prompt and completion tokens together.
        limits: name of the two limits above; runs of a cluster that give the same name share them.
        workers: number of actors. Leave the cluster one CPU more than they take, for reading the dataset.
        concurrency: maximum of concurrent requests of one worker.
        worker_options: resources of an actor, as of ``ray.remote``; default: one CPU.
        commit_seconds: time between two files of a worker; what has arrived since the last one is lost if the worker
            is killed.
        api_key: default: the provider's environment variable, of the workers.
        on_progress: called after each batch of questions.
        sampling: further fields of the request, such as ``temperature`` and ``max_tokens``.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigurationError: an argument, a column or the folder is wrong, or a file cannot be written.
        AuthenticationError: the key is refused.
        LogprobsUnavailableError: no logprobs come, and ``require_logprobs`` is set.
        SwiftClientError: the first questions all failed, and nothing has come.
    """
    ray = import_ray()
    job, pool = plan_job(
        provider=provider,
        model=model,
        n=n,
        top_logprobs=top_logprobs,
        require_logprobs=require_logprobs,
        token_ids=token_ids,
        prices=prices,
        max_cost=max_cost,
        max_requests=max_requests,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        limits=limits,
        workers=workers,
        concurrency=concurrency,
        worker_options=worker_options,
        commit_seconds=commit_seconds,
        seed=seed,
        base_url=base_url,
        api_key=api_key,
        timeout=timeout,
        max_retries=max_retries,
        **sampling,
    )
    folder = Folder(out)
    started_at = time.perf_counter()
    with lock_folder(folder):
        begin_folder(folder, job.create_setup().meta)
        committed, losses = take_over(folder, job.run)
        prior_cost = committed.cost
        if prior_cost is None and prices:  # earlier runs had no prices
            prior_cost = prices.cost(committed.usage)
        spent = (prior_cost or 0.0) + (losses.cost or 0.0)
        cluster_run = ClusterRun(
            ray=ray,
            job=replace(job, folder=folder, limits=job.limits.after(spent, folder)),
            committed=committed,
            n=n,
            pool=pool,
            on_progress=on_progress,
        )
        tally = cluster_run.run(_rows(questions))
        losses = end_run(folder, job.run, committed, losses + tally.losses)
        if job.limits.is_own:  # nobody will continue by their journals
            for name in folder.list_files(LIMITS, ".json"):
                folder.delete(name)
    return ShardsResult(
        path=str(folder),
        folder=folder,
        questions=tally.questions,
        added=tally.added,
        samples=tally.stored_before + tally.added,
        wanted=max(tally.wanted, tally.stored_before + tally.added),
        requests=sum(tally.requests.values()),
        usage=committed.usage + tally.usage,
        cost=add_costs(prior_cost, tally.cost) if prices else None,
        stopped=tally.stopped,
        failures=tuple(tally.failures),
        notes=tuple(tally.notes),
        elapsed=time.perf_counter() - started_at,
        lost_in_flight=losses.completions,
        lost_cost=losses.cost if prices else None,
    )


def _rows(questions: Any) -> Iterator[Any]:
    """Return the questions of a dataset or an iterable."""
    if hasattr(questions, "iter_batches"):
        return read_questions(questions.iter_batches(batch_size=1024, batch_format="pyarrow"))
    if isinstance(questions, Iterable) and not isinstance(questions, (str, bytes)):
        return iter(questions)
    raise ConfigurationError(
        f"The questions are a {type(questions).__name__}, not a dataset.",
        hint="Give a ray.data.Dataset, such as ray.data.read_parquet(path).",
    )

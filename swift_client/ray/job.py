"""The checked settings of a run, which every worker gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Generic, TypeVar

from swift_client.adapters import CustomProvider, Provider
from swift_client.adapters.transport.api_key import ApiKey
from swift_client.collect.setup import CollectSetup, Prices
from swift_client.errors import ConfigurationError
from swift_client.ray.folder import Folder
from swift_client.ray.limits import ClusterLimits
from swift_client.validation import require_int, require_positive

Job = TypeVar("Job")


@dataclass(frozen=True, kw_only=True, repr=False)
class CollectJob:
    """The settings of all workers of a run. Its repr shows nothing: it may have a key."""

    folder: Folder | None  # None: samples are not stored
    run: str
    provider: str | Provider | CustomProvider
    settings: Mapping[str, Any]  # further arguments of CollectSetup
    api_key: ApiKey | None
    require_logprobs: bool
    token_ids: bool
    max_concurrency: int
    commit_seconds: float
    limits: ClusterLimits

    def create_setup(self) -> CollectSetup:
        """Return the checked settings. Raises ConfigurationError if one is wrong."""
        return CollectSetup((), provider=self.provider, **self.settings)


class HiddenJob(Generic[Job]):
    """A job for the constructor of a function of Ray Data, whose logs show the fields of dataclasses, keys too."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __repr__(self) -> str:
        return "HiddenJob()"


@dataclass(frozen=True, kw_only=True)
class WorkerPool:
    """The number of actors, and the resources of each as of ``ray.remote``."""

    size: int
    options: Mapping[str, Any]


def plan_job(
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
    worker_options: Mapping[str, Any] | None = None,
    commit_seconds: float = 10.0,
    seed: int | None = None,
    base_url: str | None = None,
    api_key: ApiKey | None = None,
    timeout: float = 60.0,
    max_retries: int = 2,
    **sampling: Any,
) -> tuple[CollectJob, WorkerPool]:
    """Check the arguments of ``collect_shards``; return the settings of a run and its workers.

    Raises:
        ConfigurationError: an argument is wrong.
    """
    require_int("workers", workers, low=1)
    require_int("concurrency", concurrency, low=1)
    require_positive("commit_seconds", commit_seconds)
    if sampling.get("hidden_states"):
        raise ConfigurationError("Shards hold no hidden states.", hint="Leave hidden_states out, or use `collect`.")
    run = token_hex(6)
    job = CollectJob(
        folder=None,
        run=run,
        provider=provider,
        settings={
            "model": model, "base_url": base_url, "n": n, "top_logprobs": top_logprobs, "prices": prices,
            "max_cost": max_cost, "max_requests": max_requests, "seed": seed, "timeout": timeout,
            "max_retries": max_retries, "sampling": sampling,
        },
        api_key=api_key,
        require_logprobs=require_logprobs,
        token_ids=token_ids,
        max_concurrency=concurrency,
        commit_seconds=commit_seconds,
        limits=ClusterLimits(
            run=run,
            actor=limits or run,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            cost=max_cost,
            requests=max_requests,
        ),
    )  # fmt: skip
    job.create_setup()
    return job, WorkerPool(size=workers, options={"num_cpus": 1, **(worker_options or {})})

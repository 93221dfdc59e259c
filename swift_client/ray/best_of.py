"""``best_of_dataset``: the best of n answers to each question of a ``ray.data.Dataset``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from swift_client.adapters import CustomProvider, Provider
from swift_client.bulk.ranked_row import RankedRow
from swift_client.bulk.selection_columns import selection_schema
from swift_client.collect.runner import FATAL_ERRORS
from swift_client.errors import ConfigurationError, RejectedError, SwiftClientError
from swift_client.ray.cluster import import_ray
from swift_client.ray.job import HiddenJob, WorkerPool
from swift_client.ray.limits import ClusterLimits
from swift_client.ray.questions import read_questions
from swift_client.reranker import AsyncSwiftReranker
from swift_client.reranker.best_of import CallOptions
from swift_client.sampling import Budget
from swift_client.sampling.field_names import CALL_ARGUMENTS, CONSTRUCTOR_ARGUMENTS, refuse_names
from swift_client.store import StoredQuestion
from swift_client.types import Selection
from swift_client.validation import require_int

_BATCH_QUESTIONS = 64  # questions of a batch; those of four batches run at once


def best_of_dataset(
    dataset: Any,
    *,
    provider: str | Provider | CustomProvider,
    model: str | None = None,
    n: int = 16,
    reranker: Mapping[str, Any] | None = None,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    budget: Budget | None = None,
    limits: str | None = None,
    workers: int = 2,
    concurrency: int = 16,
    worker_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Choose the best of ``n`` answers to each question; return the choices as ``ray.data.Dataset``.

    Questions are asked whenever the dataset is read, and a worker that is killed pays for its batch again, unless the
    reranker has a ``store`` that all machines reach, such as "redis://host:6379/0".

    Args:
        dataset: a ``ray.data.Dataset``; columns as of ``collect_shards``.
        provider: as for SwiftReranker, like ``model``. An object of your own must be picklable.
        n: completions to choose from, per question.
        reranker: further arguments of SwiftReranker, such as ``head`` and ``base_url``, which may also be given by
            name. Keys come from the environment of the workers, which look up the head too.
        requests_per_minute: limit of all workers together, or None.
        tokens_per_minute: likewise, for prompt and completion tokens together.
        budget: for all questions together; those after its end have an error.
        limits: name of the limits; runs of a cluster that give the same name share the rates.
        workers: number of actors. Leave the cluster one CPU more than they take, for reading the dataset.
        concurrency: maximum of concurrent requests of one worker.
        worker_options: resources of an actor, as of ``ray.remote``; default: one CPU.
        options: arguments of ``best_of()``, the same for each question, such as ``stopping`` and ``temperature``.

    Returns:
        A dataset with one row per question: the columns of ``bulk.selection_schema()``, and "error_type", "id" (the
        choice's own), "prompt_tokens", "completion_tokens", "calls" and "cost" (US dollars; null if unknown).
        ``error`` says why a question has no choice, and ``error_type`` is the class of that error.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigurationError: an argument is wrong. A wrong key, model or argument of the reranker is raised by Ray when
            the dataset is read, as the cause of its own error.
    """
    ray = import_ray()
    require_int("workers", workers, low=1)
    require_int("concurrency", concurrency, low=1)
    require_int("n", n, low=1, high=1024)
    reranker, options = _split_arguments(reranker or {}, options)
    own_arguments = {"limit", "max_concurrency", "on_event", "client"} & reranker.keys()
    if own_arguments:
        raise ConfigurationError(
            f"The rerankers of workers take no {' or '.join(sorted(own_arguments))}.",
            hint="The dataset has its own arguments for the limits of all workers.",
        )
    run = token_hex(6)
    job = AnswerJob(
        reranker={"provider": provider, "model": model, **reranker},
        n=n,
        options=options,
        limits=ClusterLimits(
            run=run,
            actor=limits or run,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            budget=budget,
        ),
        concurrency=concurrency,
    )
    pool = WorkerPool(size=workers, options={"num_cpus": 1, **(worker_options or {})})
    return dataset.map_batches(
        _AnswerBatches,
        fn_constructor_kwargs={"hidden": HiddenJob(job)},
        batch_size=_BATCH_QUESTIONS,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=pool.size),
        **pool.options,
    )


def _split_arguments(reranker: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all arguments of the reranker, and those of ``best_of()``. Raises ConfigurationError for a wrong name."""
    unknown = sorted(reranker.keys() - CONSTRUCTOR_ARGUMENTS)
    if unknown:
        raise ConfigurationError(f"SwiftReranker has no argument {unknown[0]!r}.", hint="See its arguments.")
    refuse_names(sorted(options.keys() - CONSTRUCTOR_ARGUMENTS - CallOptions.__annotations__.keys() - CALL_ARGUMENTS))
    own = {name: value for name, value in options.items() if name in CONSTRUCTOR_ARGUMENTS}
    return {**reranker, **own}, {name: value for name, value in options.items() if name not in own}


@dataclass(frozen=True, kw_only=True, repr=False)
class AnswerJob:
    """The settings of all workers. Its repr shows nothing: it may have a key."""

    reranker: Mapping[str, Any]  # arguments of AsyncSwiftReranker
    n: int
    options: Mapping[str, Any]  # arguments of best_of
    limits: ClusterLimits
    concurrency: int


class _AnswerBatches:
    """The function of ``map_batches``: tables of questions to tables of choices."""

    def __init__(self, hidden: HiddenJob[AnswerJob]) -> None:
        self._job = job = hidden.job
        self._limits = job.limits.open(job.concurrency)
        self._reranker = AsyncSwiftReranker(**job.reranker, limit=self._limits.rate_limit)

    async def __call__(self, table: Any) -> AsyncIterator[Any]:
        """Yield the choices of a table's questions, in the order of its rows."""
        rows: list[dict[str, Any]] = []
        prompts = []
        for row in read_questions([table]):
            if isinstance(row, StoredQuestion):
                prompts.append((len(rows), row.messages))
                rows.append({"question": row.id})
            else:
                rows.append(_error_row(*row))
        outcomes = self._reranker.best_of_many(
            prompts,
            self._job.n,
            in_order=False,
            return_exceptions=True,
            budget=self._limits.budget,
            **self._job.options,
        )
        async for position, outcome in outcomes:
            row_number = int(position)
            rows[row_number] = _answer_row(rows[row_number]["question"], outcome)
        yield _to_table(rows)


def _answer_row(question: str, outcome: Selection | SwiftClientError) -> dict[str, Any]:
    if isinstance(outcome, Selection):
        return {**_row(RankedRow.of_selection(question, outcome)), **_spending(outcome)}
    if isinstance(outcome, FATAL_ERRORS):  # every other question would meet it as well
        raise outcome
    spending = _spending(outcome.selection) if isinstance(outcome, RejectedError) else {}
    return {**_error_row(question, outcome), **spending}


def _error_row(question: str, error: SwiftClientError) -> dict[str, Any]:
    return {**_row(RankedRow.of_error(question, error)), "error_type": type(error).__name__}


def _row(row: RankedRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


def _spending(selection: Selection) -> dict[str, Any]:
    usage = selection.usage
    return {
        "id": selection.id,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "calls": usage.calls,
        "cost": selection.cost,
    }


def answer_schema() -> Any:
    """Return the schema of ``best_of_dataset``."""
    import pyarrow

    counts = [pyarrow.field(name, pyarrow.int64()) for name in ("prompt_tokens", "completion_tokens", "calls")]
    texts = [pyarrow.field(name, pyarrow.string()) for name in ("error_type", "id")]
    return pyarrow.schema([*selection_schema(), *texts, *counts, pyarrow.field("cost", pyarrow.float64())])


def _to_table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow

    return pyarrow.Table.from_pylist(rows, answer_schema())

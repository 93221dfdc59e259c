"""The costs of one completion of 200 tokens with 20 alternatives, and what follows from them for many.

Replies are drawn as in ``benchmarks/training.py``, with 300 to 500 tokens; sizes and times are per token, times 200.
Each step runs in a process of its own, and its CPU time is that of the whole process less that of its imports.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from benchmarks.serving.processes import run_upstream
from benchmarks.training import draw_question, grow, measured
from swift_client.store import StoredQuestion
from swift_client.types import Completion

N, N_TOKENS, K = 8, 200, 20
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class UnitCosts:
    """The costs of one completion; CPU is in seconds of one core of the machine that measured."""

    wire_bytes: float  # of the reply as JSON
    wire_gzip_bytes: float  # of the reply as a provider that compresses sends it
    samples_file_bytes: float
    parquet_bytes: float
    parquet_without_ids_bytes: float  # without the identities of the alternatives
    collect_cpu_s: float  # request, decoding, and storing in a samples file
    collect_without_ids_cpu_s: float
    collect_5_cpu_s: float  # with 5 alternatives per token
    export_cpu_s: float  # from a samples file to Parquet
    score_cpu_s: float  # reading Parquet, features, head, choice, writing the rows
    train_cpu_s: float  # one head with its folds and its comparison
    lease_cpu_s: float  # one message to the account of a shared limit with 50 members, whose state is in memory


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """Prices and limits that nothing here can measure."""

    prompt_tokens: int = 150  # per question
    usd_per_million_prompt_tokens: float = 0.40
    usd_per_million_completion_tokens: float = 1.60
    completions_per_request: int = N
    requests_per_minute: int = 30_000  # of one account
    usd_per_core_hour: float = 0.04
    usd_per_gb_month: float = 0.023
    busy_share: float = 0.7  # of a core's time; the rest is waiting and uneven work
    days: float = 7.0  # in which the work should be done


def measure_unit_costs(questions: int, folder: Path) -> UnitCosts:
    """Measure every step on so many questions with 8 completions each; a thousand take about three minutes."""
    samples, parquet, head = folder / "drawn.db", folder / "drawn.parquet", folder / "head.safetensors"
    grow(samples, 0, questions, N)
    drawn = [completion for number in range(20) for completion in draw_question(number, N)[1]]
    replies = [json.dumps(wire_choice(completion)).encode() for completion in drawn]
    scale = N_TOKENS * len(drawn) / sum(len(completion.tokens) for completion in drawn)
    count = questions * N
    export_cpu_s = in_child(_export, str(samples), str(parquet)) * scale / count
    with run_upstream(N_TOKENS) as port:
        collected, count_collected = str(folder / "collected.db"), max(20, questions // 5)
        collect_cpu_s = in_child(_collect, port, collected, count_collected)
        without_ids = in_child(_collect, port, f"{collected}-plain", count_collected, token_ids=False)
        few_alternatives = in_child(_collect, port, f"{collected}-5", count_collected, k=5)
    train_cpu_s = _train_cpu(samples, head) * scale / count
    return UnitCosts(
        wire_bytes=sum(map(len, replies)) / len(drawn) * scale,
        wire_gzip_bytes=sum(len(gzip.compress(reply)) for reply in replies) / len(drawn) * scale,
        samples_file_bytes=samples.stat().st_size / count * scale,
        parquet_bytes=parquet.stat().st_size / count * scale,
        parquet_without_ids_bytes=_size_without_ids(parquet) / count * scale,
        collect_cpu_s=collect_cpu_s,
        collect_without_ids_cpu_s=without_ids,
        collect_5_cpu_s=few_alternatives,
        export_cpu_s=export_cpu_s,
        score_cpu_s=in_child(_score, str(parquet), str(folder / "ranked.parquet"), str(head)) * scale / count,
        train_cpu_s=train_cpu_s,
        lease_cpu_s=_lease_cpu(),
    )


def extrapolate(costs: UnitCosts, assumptions: Assumptions, completions: float) -> dict[str, float]:
    """Return what so many completions take, if every step costs per completion what one costs."""
    requests = completions / assumptions.completions_per_request
    tokens_usd = (
        requests * assumptions.prompt_tokens * assumptions.usd_per_million_prompt_tokens
        + completions * N_TOKENS * assumptions.usd_per_million_completion_tokens
    ) / 1e6
    cpu_s = completions * (costs.collect_cpu_s + costs.score_cpu_s)
    seconds = assumptions.days * 86_400
    return {
        "tokens_usd": tokens_usd,
        "collect_core_hours": completions * costs.collect_cpu_s / 3600,
        "score_core_hours": completions * costs.score_cpu_s / 3600,
        "cores_usd": cpu_s / 3600 / assumptions.busy_share * assumptions.usd_per_core_hour,
        "cores": cpu_s / assumptions.busy_share / seconds,
        "wire_tb": completions * costs.wire_bytes / 1e12,
        "wire_gbit_per_s": completions * costs.wire_bytes * 8 / 1e9 / seconds,
        "wire_gzip_tb": completions * costs.wire_gzip_bytes / 1e12,
        "parquet_tb": completions * costs.parquet_bytes / 1e12,
        "parquet_usd_per_month": completions * costs.parquet_bytes / 1e9 * assumptions.usd_per_gb_month,
        "days_at_the_rate_limit": requests / assumptions.requests_per_minute / 1440,
    }


def in_child(function: Callable[P, R], *arguments: P.args, **settings: P.kwargs) -> R:
    """Call a function in a process of its own, whose memory, CPU time and Ray session are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **settings).result()


def wire_choice(completion: Completion) -> dict[str, Any]:
    """Return a completion as a choice of an OpenAI reply, with every token's alternatives."""

    def entry(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": round(float(logprob), 8), "bytes": list(token.encode())}

    content = [
        entry(token, logprob) | {"top_logprobs": [entry(f" word{rank}", value) for rank, value in enumerate(ranks)]}
        for token, logprob, ranks in zip(
            completion.tokens, completion.logprobs, completion.top_logprobs.tolist(), strict=True
        )
    ]
    message = {"role": "assistant", "content": completion.text, "refusal": None}
    return {
        "index": completion.index, "message": message, "finish_reason": "stop",
        "logprobs": {"content": content, "refusal": None},
    }  # fmt: skip


def _collect(port: int, out: str, questions: int, *, k: int = K, token_ids: bool = True) -> float:
    """Return the CPU seconds per completion of a collect run against the upstream."""
    from swift_client.collect.collect import collect

    def ask(first: int, count: int) -> int:
        asked = [
            StoredQuestion(id=f"q{number}", messages=({"role": "user", "content": f"What is {number} * 24?"},))
            for number in range(first, first + count)
        ]
        settings: dict[str, Any] = {
            "provider": "openai-compatible", "model": "m", "base_url": f"http://127.0.0.1:{port}/v1", "api_key": "k",
        }  # fmt: skip
        return collect(asked, out, n=N, top_logprobs=k, token_ids=token_ids, **settings).added

    ask(0, 4)  # connections and imports
    start = time.process_time()
    added = ask(4, questions)
    return (time.process_time() - start) / added


def _export(samples: str, out: str) -> float:
    """Return the CPU seconds of an export to Parquet."""
    from swift_client.dataset.export_parquet import export_parquet, import_pyarrow

    import_pyarrow()
    start = time.process_time()
    export_parquet(samples, out)
    return time.process_time() - start


def _size_without_ids(parquet: Path) -> int:
    """Return the bytes of a file of samples after the identities of the alternatives are gone."""
    import pyarrow.parquet

    from swift_client.dataset.sample_columns.schema import open_writer

    table = pyarrow.parquet.read_table(parquet).drop_columns(["top_ids"])
    target = parquet.with_name("without-ids.parquet")
    with open_writer(target, table.schema) as writer:
        writer.write_table(table)
    return target.stat().st_size


def _lease_cpu(members: int = 50, rounds: int = 40) -> float:
    """Return the CPU seconds of one message to an account in memory."""
    from swift_client.ray.limits_actor import JournalStore
    from swift_client.shared_limits import Demand, LeaseRequest, StoreLeases

    leases = StoreLeases(JournalStore(None))
    start = time.process_time()
    for number in range(rounds):
        for member in range(members):
            demand = Demand(capacity=5000, rate=500, total_used=10.0 * number, target=10, quantum=1)
            request = LeaseRequest(member=f"member {member}", number=number, demands={"requests": demand})
            leases.lease("account", request)
    return (time.process_time() - start) / (members * rounds)


def _train_cpu(samples: Path, head: Path) -> float:
    """Return the CPU seconds of ``train`` in a process of its own, its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured(samples, head, "cpu")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _score(samples: str, out: str, head: str) -> float:
    """Return the CPU seconds of ranking all questions in this process."""
    from swift_client.bulk import rank_files

    rank_files(samples, out, head=head, workers=1)  # imports, and the first reading of the file
    start = time.process_time()
    rank_files(samples, out, head=head, workers=1)
    return time.process_time() - start

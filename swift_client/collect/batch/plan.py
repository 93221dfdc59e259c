"""The requests of a run's batches: the missing completions, as far as the limits reach, split into input files."""

from __future__ import annotations

import hashlib
import io
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from swift_client.adapters.codecs import openai_batch
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.collect.result import CollectState
from swift_client.errors import ConfigurationError
from swift_client.sampling import Budget, CallContext, Cost
from swift_client.store import BatchStore, StoredQuestion


class BatchRequest(NamedTuple):
    """One request of a batch: ``n`` completions of a question, numbered from ``first_index``."""

    question_id: str
    first_index: int
    n: int

    @property
    def custom_id(self) -> str:
        """The request's name in the batch: the same for the same question and index, and safe for any question id."""
        digest = hashlib.sha256(self.question_id.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{digest[:32]}-{self.first_index}"


@dataclass(kw_only=True)
class BatchPlan:
    """The missing completions of a run, as batch requests."""

    state: CollectState[BatchStore]
    context: CallContext
    url: str  # endpoint of the requests, such as "/v1/chat/completions"
    # The limit that left completions unrequested: "max_cost" or "max_requests".
    stop_reason: str | None = None
    # Indices requested by open batches, by question.
    pending_indices: dict[str, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.setup = self.state.setup
        """Its prices are those of a batch."""
        self._questions_by_id = {question.id: question for question in self.setup.questions}

    def set_pending(self, requests: Iterable[BatchRequest]) -> None:
        """Set the requests of the open batches."""
        self.pending_indices = {}
        for request in requests:
            indices = range(request.first_index, request.first_index + request.n)
            self.pending_indices.setdefault(request.question_id, set()).update(indices)

    def taken_indices(self, question: StoredQuestion) -> set[int]:
        """Return the indices of a question that are in the file or in open batches."""
        return self.state.indices(question.id) | self.pending_indices.get(question.id, set())

    def iter_requests(self, committed_cost: float) -> Iterator[BatchRequest]:
        """Yield requests for everything that is missing, as far as ``max_cost`` and ``max_requests`` allow.

        Args:
            committed_cost: cost of the whole file, and the worst-case cost of open batches.
        """
        max_cost, max_requests = self.setup.max_cost, self.setup.max_requests
        budget = Budget(
            usd=sys.float_info.max if max_cost is None else max_cost,
            calls=sys.maxsize if max_requests is None else max_requests,
        ).open()
        budget.commit(Cost(), Cost(usd=committed_cost))
        for question in self.setup.questions:
            sample_cost = self.setup.max_sample_cost(question) if max_cost is not None else 0.0

            def cost_bound(n: int, sample_cost: float = sample_cost) -> Cost:
                return Cost(usd=sample_cost * n, calls=1)

            for start, end in self.setup.missing_ranges(self.taken_indices(question)):
                while start < end:
                    n = budget.affordable(self.context.endpoint.call_size(end - start), cost_bound)
                    if not n:
                        self.stop_reason = "max_requests" if budget.spent.calls == max_requests else "max_cost"
                        return
                    budget.commit(Cost(), cost_bound(n))
                    yield BatchRequest(question.id, start, n)
                    start += n

    def max_requests_cost(self, requests: Iterable[BatchRequest], questions: Iterable[StoredQuestion]) -> float:
        """Return the worst-case cost of requests; 0 if nothing limits the cost."""
        if self.setup.max_cost is None:
            return 0.0
        sample_costs = {question.id: self.setup.max_sample_cost(question) for question in questions}
        return sum(sample_costs[request.question_id] * request.n for request in requests)

    def format_line(self, batch_request: BatchRequest) -> bytes:
        """Return one line of an input file: its body is that of a direct call."""
        question = self._questions_by_id[batch_request.question_id]
        sample_request = self.setup.sample_request(question, batch_request.n, batch_request.first_index)
        sampling = self.context.endpoint.rename_params(sample_request.sampling)
        completion_request = CompletionRequest(
            self.context.provider,
            self.context.model,
            sample_request.messages,
            n=batch_request.n,
            top_logprobs=self.requested_top_logprobs(batch_request),
            sampling=sampling if sample_request.seed is None else {**sampling, "seed": sample_request.seed},
        )
        request = self.context.codec.request(completion_request)
        return openai_batch.request_line(batch_request.custom_id, self.url, dict(request.body))

    def requested_top_logprobs(self, request: BatchRequest) -> int | None:
        """Return the alternatives per token that a request asks for."""
        fields = {**self.context.provider.extra_body, **self.setup.sampling}
        return self.context.endpoint.request_params(request.n, stream=False, fields=fields).top_logprobs


def split_into_files(
    requests: Iterable[BatchRequest],
    format_line: Callable[[BatchRequest], bytes],
    folder: Path | None,
    *,
    max_lines: int,
    max_bytes: int,
) -> Generator[tuple[list[BatchRequest], BinaryIO]]:
    """Write requests into as few input files as possible; each file lives until the next one is taken.

    Raises:
        ConfigurationError: a single line is too long, or a file cannot be written.
    """
    remaining = iter(requests)
    request = next(remaining, None)
    while request is not None:
        with open_temporary_file(folder) as file:
            in_file: list[BatchRequest] = []
            while request is not None and len(in_file) < max_lines:
                line = format_line(request)
                if len(line) > max_bytes:
                    raise ConfigurationError(
                        f"Question {request.question_id!r} makes a request of {len(line):,} bytes; a batch takes at "
                        f"most {max_bytes:,}.",
                        hint="Shorten its prompt, or leave it out.",
                    )
                if file.tell() + len(line) > max_bytes:
                    break
                file.write(line)
                in_file.append(request)
                request = next(remaining, None)
            file.seek(0)
            yield in_file, file


def open_temporary_file(folder: Path | None) -> BinaryIO:
    """Open a file in ``folder``, or in memory, that disappears when it is closed, or when the process is killed."""
    if folder is None:
        return io.BytesIO()
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise ConfigurationError(
            f"No file can be created in {folder}: {error.strerror or error}.",
            hint="Check that the folder is writable, and that the disk has space.",
        ) from error

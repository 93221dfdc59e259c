"""Similarities that cost time, between the scoring and the choice: by a function of the user, or by embeddings."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from swift_client.adapters.user_threads import UserThreads
from swift_client.pricing import add_costs
from swift_client.sampling.budget import BudgetTracker
from swift_client.sampling.embeddings import Embedder
from swift_client.sampling.model_client import ModelClient
from swift_client.scoring.result import ScoredCompletions, UserSimilarity
from swift_client.selection.choose import seeks_consensus
from swift_client.selection.consensus import (
    distinct_texts,
    embedding_model,
    with_user_similarity,
    without_similarity,
)
from swift_client.selection.similarity import cosine
from swift_client.types import Method, Selection
from swift_client.verify.connect_judge import connect_model


class TextComparison:
    """Compares the texts of a question before a consensus. Safe to share between tasks, threads and event loops.

    Args:
        similarity: a function of the user, or "embedding:PROVIDER/MODEL"; a name of SIMILARITIES needs nothing here.
        own: the model that answers; embeddings of the same provider use its address, key and limits.
        threads: the threads of the user's functions.
        timeout: seconds per request for embeddings.

    Raises:
        ConfigurationError: there is no such provider, or it has no embeddings.
    """

    def __init__(
        self, similarity: str | UserSimilarity, own: ModelClient, *, threads: UserThreads, timeout: float
    ) -> None:
        self._threads = threads
        self.embedder: Embedder | None = None
        if isinstance(similarity, str) and (model := embedding_model(similarity)):
            name = f"{own.provider.name}/{model[6:]}" if model.startswith("model=") else model
            self.embedder = Embedder(connect_model(name, own, timeout=timeout))

    async def compare(
        self,
        scored: ScoredCompletions,
        method: Method,
        *,
        seconds: float,
        budget: BudgetTracker | None,
        deadline_at: float | None,
    ) -> ScoredCompletions:
        """Return the completions with their similarities, if the choice will be a consensus.

        If there are none, the default similarity takes their place and a note says so.

        Args:
            scored: completions of one question.
            method: how the choice is made.
            seconds: seconds that a function of the user may take, the wait for a free thread included; then it is left
                to end in its thread.
            budget: the budget that embeddings are paid from; None: no limit.
            deadline_at: the deadline in the running loop's time; None: no deadline.
        """
        if not seeks_consensus(scored, method):
            return scored
        if self.embedder:
            return await self._embed(self.embedder, scored, budget, deadline_at)
        if not callable(scored.similarity):
            return scored
        try:
            async with asyncio.timeout(seconds):
                return await self._threads.call(with_user_similarity, scored)
        except TimeoutError:
            return without_similarity(scored, f"took longer than {seconds:.3g} s")

    async def _embed(
        self, embedder: Embedder, scored: ScoredCompletions, budget: BudgetTracker | None, deadline_at: float | None
    ) -> ScoredCompletions:
        texts = distinct_texts(scored).texts
        if len(texts) < 2:  # every text is the same one
            return replace(scored, similarity=None)
        result = await embedder.embed(texts, budget=budget, deadline_at=deadline_at)
        scored = replace(scored, similarity_usage=result.usage, similarity_cost=result.cost)
        if result.vectors is None:
            error = result.failure.error if result.failure else None
            scored = without_similarity(scored, f"failed ({type(error).__name__}: {error})")
            return replace(scored, similarity_failures=() if result.failure is None else (result.failure,))
        return replace(scored, similarity_matrix=cosine(result.vectors))

    def with_cost(self, selection: Selection, scored: ScoredCompletions) -> Selection:
        """Return the selection with what the comparison of its texts cost."""
        if not scored.similarity_usage.calls:
            return selection
        return replace(
            selection,
            usage=selection.usage + scored.similarity_usage,
            cost=add_costs(selection.cost, scored.similarity_cost),
            failures=(*selection.failures, *scored.similarity_failures),
        )

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        if self.embedder:
            await self.embedder.model.transports.aclose()

"""The call of ``best_of`` behind every integration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Self

from swift_client.errors import ConfigurationError
from swift_client.integrations.peer_packages import translated_errors
from swift_client.reranker.best_of import AsyncBestOf, Run, SyncBestOf
from swift_client.reranker.cascade import AsyncCascade, Cascade
from swift_client.reranker.client import AsyncSwiftReranker, SwiftReranker
from swift_client.types import Message, Selection

Reranker = SwiftReranker | AsyncSwiftReranker | Cascade | AsyncCascade
Options = Mapping[str, Any] | None  # further arguments of ``best_of()``


class BestOfCall:
    """A reranker with the arguments that its calls have in common.

    Sync and async calls work with either kind of reranker: both kinds run the same pipeline, with the same limits.
    """

    def __init__(self, reranker: Reranker, n: int, options: Options, *, errors: ModuleType | None = None) -> None:
        """Check the reranker.

        Args:
            reranker: a reranker or cascade.
            n: completions to choose from.
            options: further arguments of ``best_of()``.
            errors: see ``translated_errors()``.

        Raises:
            ConfigurationError: ``reranker`` is neither a reranker nor a cascade.
        """
        if not isinstance(reranker, Reranker):
            raise ConfigurationError(
                f"reranker is a SwiftReranker, an AsyncSwiftReranker or a cascade, not {type(reranker).__name__}.",
                hint='Such as SwiftReranker("openai", "gpt-4.1-mini").',
            )
        self._sync = reranker if isinstance(reranker, SyncBestOf) else _OwnThread(reranker._run)
        self._async = reranker if isinstance(reranker, AsyncBestOf) else _RunningLoop(reranker._run)
        self._errors = errors
        self.arguments = {"n": n, **(options or {})}
        self.name = reranker._first_pipeline.name  # such as "openai/gpt-4.1-mini"

    def run(self, messages: str | Sequence[Message], **fields: Any) -> Selection:
        """Ask and return the choice; ``fields`` that are not None win over the arguments of all calls.

        Raises:
            Exception: of the other package, for an error of the provider, with ours as its cause.
            SwiftClientError: any other error.
        """
        with translated_errors(self._errors, self.name):
            return self._sync.best_of(messages, **self._merge(fields))

    async def arun(self, messages: str | Sequence[Message], **fields: Any) -> Selection:
        """Ask on the running event loop; arguments and errors as ``run()``."""
        with translated_errors(self._errors, self.name):
            return await self._async.best_of(messages, **self._merge(fields))

    def _merge(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return self.arguments | {name: value for name, value in fields.items() if value is not None}

    def __deepcopy__(self, memo: object) -> Self:
        return self  # copies of a program share its reranker


class _OwnThread(SyncBestOf):
    def __init__(self, run: Run) -> None:
        self._run = run


class _RunningLoop(AsyncBestOf):
    def __init__(self, run: Run) -> None:
        self._run = run

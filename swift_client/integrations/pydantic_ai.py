"""pydantic-ai: a model that answers by best of N. ``response.provider_details["swift"]`` says how it was chosen."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from swift_client.integrations.best_of_call import BestOfCall, Options, Reranker
from swift_client.integrations.openai_format import chat_completion
from swift_client.integrations.peer_packages import peer_package

with peer_package("'pydantic-ai-slim[openai]'"):
    from openai import NotGiven, Omit
    from openai.types.chat import ChatCompletion
    from pydantic_ai import exceptions
    from pydantic_ai.models import CompletedStreamedResponse
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai import OpenAIProvider

# Arguments of a request of OpenAI's client that the reranker has itself, or that have no meaning here.
_LEFT_OUT = frozenset(("model", "stream", "stream_options", "timeout", "extra_headers"))


class SwiftModel(OpenAIChatModel):
    """A model for agents, with tools and structured output; a stream has one chunk.

    It maps messages and tools as pydantic-ai does for OpenAI's chat completions, and sends them to a reranker.
    """

    unsupported_settings = OpenAIChatModel.unsupported_settings | {"timeout", "extra_headers", "max_retries"}

    def __init__(self, reranker: Reranker, n: int = 16, options: Options = None, **fields: Any) -> None:
        """Take a reranker and arguments of ``best_of()``; ``fields`` are ``settings`` and ``profile``."""
        self._call = BestOfCall(reranker, n, options, errors=exceptions)
        fields.setdefault("profile", OpenAIModelProfile(openai_chat_supports_max_completion_tokens=False))
        provider = OpenAIProvider(base_url="http://swift-client.invalid", api_key="unused")
        super().__init__(self._call.name, provider=provider, **fields)

    @property
    def client(self) -> Any:
        return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=self._create)))

    async def _create(self, *, messages: list[Any], **fields: Any) -> ChatCompletion:
        given = {k: v for k, v in fields.items() if k not in _LEFT_OUT and not isinstance(v, NotGiven | Omit)}
        return ChatCompletion.model_validate(chat_completion(await self._call.arun(messages, **given)))

    @asynccontextmanager
    async def request_stream(
        self, messages: Any, model_settings: Any, model_request_parameters: Any, run_context: Any = None
    ) -> AsyncGenerator[CompletedStreamedResponse]:
        response = await self.request(messages, model_settings, model_request_parameters)
        yield CompletedStreamedResponse(response, model_request_parameters=model_request_parameters, replay_events=True)

    def _process_provider_details(self, response: ChatCompletion) -> dict[str, Any]:
        return {**(super()._process_provider_details(response) or {}), "swift": (response.model_extra or {})["swift"]}

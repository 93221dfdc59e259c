"""LiteLLM: a custom provider that answers by best of N. ``response.swift`` says how it was chosen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from swift_client.integrations.best_of_call import BestOfCall, Options, Reranker
from swift_client.integrations.openai_format import chat_completion
from swift_client.integrations.peer_packages import peer_package
from swift_client.types import Selection

with peer_package("litellm"):
    import litellm
    from litellm import CustomLLM, ModelResponse, ModelResponseStream


class SwiftProvider(CustomLLM):
    """A ``custom_handler`` for ``litellm.custom_provider_map``; a stream has one chunk with the whole message."""

    def __init__(self, reranker: Reranker, n: int = 16, options: Options = None) -> None:
        """Take a reranker and arguments of ``best_of()``."""
        super().__init__()
        self._call = BestOfCall(reranker, n, options, errors=litellm)

    def completion(self, *, messages: list[Any], optional_params: dict[str, Any], **_: Any) -> ModelResponse:
        return _response(self._call.run(messages, **_fields(optional_params)))

    async def acompletion(self, *, messages: list[Any], optional_params: dict[str, Any], **_: Any) -> ModelResponse:
        return _response(await self._call.arun(messages, **_fields(optional_params)))

    def streaming(self, **arguments: Any) -> Iterator[ModelResponseStream]:
        return iter([_chunk(self.completion(**arguments))])

    async def astreaming(self, **arguments: Any) -> AsyncIterator[ModelResponseStream]:
        yield _chunk(await self.acompletion(**arguments))


def _fields(optional_params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in optional_params.items() if name not in ("stream", "stream_options")}


def _response(selection: Selection) -> ModelResponse:
    response = ModelResponse(**chat_completion(selection))
    response._hidden_params["response_cost"] = selection.cost
    return response


def _chunk(response: ModelResponse) -> ModelResponseStream:
    choice = response.choices[0]
    delta = choice.message.model_dump(include={"role", "content", "tool_calls"})
    choices = [{"index": 0, "delta": delta, "finish_reason": choice.finish_reason}]
    return ModelResponseStream(id=response.id, model=response.model, choices=choices, usage=response.usage)

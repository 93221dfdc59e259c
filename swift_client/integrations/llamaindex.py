"""LlamaIndex: an LLM that answers by best of N. ``response.raw["swift"]`` says how; a stream has one chunk."""

from __future__ import annotations

from typing import Any

from swift_client.integrations.best_of_call import BestOfCall, Options, Reranker
from swift_client.integrations.llamaindex_messages import chat_arguments, message_dicts
from swift_client.integrations.llamaindex_responses import chat_response, stream_of, tool_selections
from swift_client.integrations.peer_packages import peer_package

with peer_package("llama-index-core"):
    from llama_index.core.base.llms import generic_utils, types
    from llama_index.core.llms.callbacks import llm_chat_callback
    from llama_index.core.llms.function_calling import FunctionCallingLLM


class SwiftLLM(FunctionCallingLLM):
    """An LLM with tools, for query engines and agents."""

    _call: BestOfCall

    def __init__(self, reranker: Reranker, n: int = 16, options: Options = None, **fields: Any) -> None:
        """Take a reranker and arguments of ``best_of()``; ``fields`` are those of every LLM."""
        super().__init__(**fields)
        self._call = BestOfCall(reranker, n, options)

    @property
    def metadata(self) -> types.LLMMetadata:
        return types.LLMMetadata(model_name=self._call.name, is_chat_model=True, is_function_calling_model=True)

    @llm_chat_callback()
    def chat(self, messages: Any, **fields: Any) -> types.ChatResponse:
        return chat_response(self._call.run(message_dicts(messages), **fields))

    @llm_chat_callback()
    async def achat(self, messages: Any, **fields: Any) -> types.ChatResponse:
        return chat_response(await self._call.arun(message_dicts(messages), **fields))

    def stream_chat(self, messages: Any, **fields: Any) -> types.ChatResponseGen:
        yield self.chat(messages, **fields)

    async def astream_chat(self, messages: Any, **fields: Any) -> types.ChatResponseAsyncGen:
        return stream_of(await self.achat(messages, **fields))

    def complete(self, prompt: str, formatted: bool = False, **fields: Any) -> types.CompletionResponse:
        return generic_utils.chat_to_completion_decorator(self.chat)(prompt, **fields)

    async def acomplete(self, prompt: str, formatted: bool = False, **fields: Any) -> types.CompletionResponse:
        return await generic_utils.achat_to_completion_decorator(self.achat)(prompt, **fields)

    def stream_complete(self, prompt: str, formatted: bool = False, **fields: Any) -> types.CompletionResponseGen:
        return generic_utils.stream_chat_to_completion_decorator(self.stream_chat)(prompt, **fields)

    async def astream_complete(self, prompt: str, formatted: bool = False, **fields: Any) -> Any:
        return await generic_utils.astream_chat_to_completion_decorator(self.astream_chat)(prompt, **fields)

    _prepare_chat_with_tools = staticmethod(chat_arguments)
    get_tool_calls_from_response = staticmethod(tool_selections)

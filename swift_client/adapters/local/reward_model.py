"""Reward models as external scores: ``SwiftReranker(..., external=RewardModel("path-or-name"))``, or behind HTTP.

Both read a question with each of its answers and return one number per answer; higher is better.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS, excerpt
from swift_client.adapters.providers import PROVIDERS
from swift_client.adapters.providers.provider import Request
from swift_client.adapters.transport.api_key import ApiKey
from swift_client.adapters.transport.http import Transport
from swift_client.errors import ConfigurationError, MissingExtraError, ResponseDecodeError
from swift_client.types import Completion, Message

__all__ = ["RewardModel", "RewardServer"]


class RewardModel:
    """A sequence-classification model of transformers with one output, loaded at the first question (extra "local").

    Args:
        model: a folder or a name on the hub; the model's own code is never run.
        device: default: "cuda" if available, else "cpu".
        batch: answers per batch.
    """

    def __init__(self, model: str, *, device: str | None = None, batch: int = 8) -> None:
        self.name = model
        self._device, self._batch = device, batch
        self._lock = threading.Lock()
        self._model_and_tokenizer: tuple[Any, Any] | None = None

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, messages: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        """Return N rewards.

        Raises:
            MissingExtraError: torch or transformers is not installed.
            ConfigurationError: the model cannot be loaded, or has more than one output.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError.needs("local", "A reward model of transformers") from error
        with self._lock:  # one call at a time: they share the model's memory
            model, tokenizer = self._model_and_tokenizer = self._model_and_tokenizer or self._load()
            rewards: list[float] = []
            for start in range(0, len(completions), self._batch):
                batch = completions[start : start + self._batch]
                texts = [_format_dialogue(tokenizer, messages, completion.text) for completion in batch]
                inputs = tokenizer(
                    texts, return_tensors="pt", padding=True, truncation=True, add_special_tokens=False
                ).to(model.device)
                with torch.inference_mode():
                    rewards += model(**inputs).logits[:, 0].float().tolist()
        return rewards

    def _load(self) -> tuple[Any, Any]:
        import torch
        import transformers

        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.name)
            model = transformers.AutoModelForSequenceClassification.from_pretrained(self.name)
        except (OSError, ValueError, ImportError) as error:
            raise ConfigurationError(
                f"The reward model {self.name!r} cannot be loaded: {str(error).splitlines()[0]}",
                hint="Pass a folder or a name of a model for sequence classification.",
            ) from error
        if model.config.num_labels != 1:
            raise ConfigurationError(
                f"{self.name} has {model.config.num_labels} outputs; a reward model has one.", hint="Use another model."
            )
        if tokenizer.pad_token is None:  # padding is masked, so any token will do
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        model.config.pad_token_id = tokenizer.pad_token_id
        return model.to(self._device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), tokenizer


class RewardServer:
    """A reward model behind vLLM's ``/classify`` (https://docs.vllm.ai, pooling models); one request for all answers.

    Args:
        base_url: the server's address.
        model: its name on the server.
        api_key: if the server needs one.
        timeout: seconds for one request.
    """

    def __init__(self, base_url: str, model: str, *, api_key: ApiKey | None = None, timeout: float = 60.0) -> None:
        self.name = model
        self._base_url, self._timeout = base_url, timeout
        self._api_key: ApiKey = api_key or "none"

    @property
    def __name__(self) -> str:
        return self.name

    async def __call__(self, messages: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        """Return N rewards.

        Raises:
            SwiftClientError: the server refuses, the connection breaks, or the reply is not a list of N scores.
        """
        texts = [f"{_join_messages(messages)}\n\n{completion.text}" for completion in completions]
        provider = PROVIDERS["openai-compatible"]
        transport = Transport(provider, base_url=self._base_url, api_key=self._api_key, timeout=self._timeout)
        try:
            body = {"model": self.name, "input": texts}
            reply = await transport.send(Request(method="POST", path="/classify", body=body, n=1, stream=False))
        finally:
            await transport.aclose()
        return parse_rewards(reply, len(completions))


class _ClassifyItem(msgspec.Struct):
    index: int
    probs: list[float]


class _ClassifyResponse(msgspec.Struct):
    data: list[_ClassifyItem]


def parse_rewards(reply: bytes, n: int) -> list[float]:
    """Return the first probability of each of the N items of a ``/classify`` reply, by index.

    Raises:
        ResponseDecodeError: it does not have N such numbers.
    """
    try:
        items = msgspec.json.decode(reply, type=_ClassifyResponse).data
        scores = {item.index: item.probs[0] for item in items if item.probs}
        return [scores[index] for index in range(n)]
    except (*DECODE_ERRORS, KeyError) as error:
        raise ResponseDecodeError(
            f"The reward server did not return {n} scores: {excerpt(reply)}", hint="Check its address and its model."
        ) from error


def _join_messages(messages: Sequence[Message]) -> str:
    return "\n\n".join(str(message["content"]) for message in messages)


def _format_dialogue(tokenizer: Any, messages: Sequence[Message], answer: str) -> str:
    """Format question and answer with the model's chat template, or without one as plain text."""
    if not getattr(tokenizer, "chat_template", None):
        return f"{_join_messages(messages)}\n\n{answer}"
    dialogue = [*messages, {"role": "assistant", "content": answer}]
    return str(tokenizer.apply_chat_template(dialogue, tokenize=False))

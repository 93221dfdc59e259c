"""Reward models as second scores: ``SwiftReranker(..., external=RewardModel("path-or-name"))``, or one behind HTTP.

Both read a question with each of its answers and give one number, higher is better.
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
        model: a folder or a name on the hub; no code of the model's own is run.
        device: default: "cuda" where there is one, else "cpu".
        batch: answers that are read at once.
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
        with self._lock:  # one at a time: weights and memory are one model's
            model, tokenizer = self._model_and_tokenizer = self._model_and_tokenizer or self._load()
            rewards: list[float] = []
            for start in range(0, len(completions), self._batch):
                texts = [
                    _format_dialogue(tokenizer, messages, each.text)
                    for each in completions[start : start + self._batch]
                ]
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
                hint="Give a folder or a name whose model is for sequence classification.",
            ) from error
        if model.config.num_labels != 1:
            raise ConfigurationError(
                f"{self.name} has {model.config.num_labels} outputs; a reward model has one.",
                hint="Give another model.",
            )
        if tokenizer.pad_token is None:  # padding is masked; any token does
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        model.config.pad_token_id = tokenizer.pad_token_id
        return model.to(self._device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), tokenizer


class RewardServer:
    """A reward model behind vLLM's ``/classify`` (https://docs.vllm.ai, pooling models), asked with all N answers.

    Args:
        base_url: the server's address.
        model: as the server names it.
        api_key: where the server wants one.
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
            SwiftClientError: the server refuses, breaks off, or answers with something else.
        """
        texts = [f"{_join_messages(messages)}\n\n{each.text}" for each in completions]
        row = PROVIDERS["openai-compatible"]
        transport = Transport(row, base_url=self._base_url, api_key=self._api_key, timeout=self._timeout)
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
    """Read the N first probabilities of a ``/classify`` reply, by index.

    Raises:
        ResponseDecodeError: it holds no such N numbers.
    """
    try:
        found = {
            each.index: each.probs[0] for each in msgspec.json.decode(reply, type=_ClassifyResponse).data if each.probs
        }
        return [found[index] for index in range(n)]
    except (*DECODE_ERRORS, KeyError) as error:
        raise ResponseDecodeError(
            f"The reward server gave no {n} numbers: {excerpt(reply)}", hint="Check its address and its model."
        ) from error


def _join_messages(messages: Sequence[Message]) -> str:
    return "\n\n".join(str(message["content"]) for message in messages)


def _format_dialogue(tokenizer: Any, messages: Sequence[Message], answer: str) -> str:
    """Write question and answer as the model's chat template has them, else one after the other."""
    if not getattr(tokenizer, "chat_template", None):
        return f"{_join_messages(messages)}\n\n{answer}"
    whole = [*messages, {"role": "assistant", "content": answer}]
    return str(tokenizer.apply_chat_template(whole, tokenize=False))

"""Read choices, of whatever codec, are joined to the Reply: their order, what they cost, what is wrong with them."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from swift_client.adapters.codecs.lenient_json import decode_or_none
from swift_client.adapters.providers.provider import Reply
from swift_client.types import Completion, FinishReason, Usage

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop", "eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "end_turn": "stop",
    "complete": "stop", "completed": "stop", "stop_str": "stop",
    "length": "length", "max_tokens": "length", "max_output_tokens": "length", "model_length": "length",
    "incomplete": "length",
    "model_context_window_exceeded": "length", "pause_turn": "length",
    "tool_calls": "tool_calls", "tool_call": "tool_calls", "tool_use": "tool_calls", "function_call": "tool_calls",
    "content_filter": "content_filter", "safety": "content_filter", "recitation": "content_filter",
    "prohibited_content": "content_filter", "blocklist": "content_filter", "spii": "content_filter",
    "language": "content_filter", "model_armor": "content_filter",
    "refusal": "refusal",
    "error": "error", "abort": "error", "cancelled": "error", "insufficient_system_resource": "error",
    "failed": "error", "in_progress": "error", "queued": "error", "other": "error",
    "malformed_function_call": "error", "unexpected_tool_call": "error", "too_many_tool_calls": "error",
    "malformed_response": "error",
}  # fmt: skip
"""Providers' words, in lower case, to ours (providers.md: OpenAI, TGI, Together, vLLM, DeepSeek, Google, Cohere,
Anthropic)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ParsedChoice:
    """A completion with what the reply needs to know about it."""

    completion: Completion
    index: int | None
    """The wire index, where there is one."""
    n_listed_tokens: int = 0
    """Tokens that the server listed, thinking and end-of-turn tokens included."""
    has_ties: bool = False
    """Whether listed numbers were equal, so that the tokens' texts were needed."""
    fault: str | None = None
    """What is wrong with its logprobs, as the end of a sentence on the completion."""


def normalize_finish_reason(reason: str | None) -> FinishReason:
    """Return our word for a provider's."""
    return _FINISH_REASONS.get((reason or "").lower(), "unknown")


def canonical_tool_calls(calls: Iterable[dict[str, Any]]) -> str:
    """Write tool calls as JSON that is equal for equal calls: no ids, sorted keys, arguments parsed."""
    plain = []
    for call in calls:
        arguments = call.get("arguments")
        parsed = decode_or_none(arguments.encode("utf-8", "replace"), dict) if isinstance(arguments, str) else arguments
        plain.append({"name": call.get("name"), "arguments": arguments if parsed is None else parsed})
    return msgspec.json.encode(plain, order="deterministic").decode()


def build_reply(
    choices: list[ParsedChoice],
    *,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    cached_tokens: int = 0,
    usage_counts_one_choice: bool = False,
    model: str | None,
    notes: Iterable[str] = (),
) -> Reply:
    """Make the Reply.

    The server's counts are trusted, unless they are missing or cannot be right for several choices: llama.cpp counts
    one choice only, and so may others. Then the listed tokens are counted, or where none are listed, every choice like
    that one. End-of-turn tokens may be listed and yet not be counted.

    Args:
        read: the choices in the order of arrival.
        prompt_tokens: as reported, of the whole reply.
        completion_tokens: as reported, of the whole reply, thinking included.
        cached_tokens: how many of the prompt were read from a cache, as reported.
        counts_one: whether ``completion_tokens`` is known to be of one choice only.
        model: as reported.
        notes: what else a user should know.
    """
    choices = _sort_choices(choices)
    listed, several = sum(item.n_listed_tokens for item in choices), len(choices) > 1
    counted = completion_tokens
    estimated = (
        counted is None or counted < 0 or (several and (usage_counts_one_choice or counted + len(choices) < listed))
    )
    if estimated:
        counted = listed or (counted or 0) * len(choices)
    prompt = max(prompt_tokens or 0, 0)
    usage = Usage(
        prompt_tokens=prompt,
        cached_prompt_tokens=min(cached_tokens, prompt),
        completion_tokens=max(counted or 0, 0),
        estimated=estimated or prompt_tokens is None,
    )
    completions = tuple(item.completion for item in choices)
    return Reply(completions=completions, usage=usage, model=model, notes=(*notes, *_fault_notes(choices)))


def run_steps(steps: Generator[None, None, Reply]) -> Reply:
    """Run the steps of decoding without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            reply: Reply = end.value
            return reply


def _sort_choices(choices: list[ParsedChoice]) -> list[ParsedChoice]:
    """Sort by the wire index; keep the order of arrival where the indices are missing, repeated or negative."""
    indices = [item.index for item in choices if item.index is not None and item.index >= 0]
    if len(set(indices)) < len(choices):
        indices = list(range(len(choices)))
    by_index = sorted(zip(indices, choices, strict=True), key=lambda pair: pair[0])
    return [replace(item, completion=replace(item.completion, index=index)) for index, item in by_index]


def _fault_notes(choices: list[ParsedChoice]) -> list[str]:
    """Say each fault once, with the completions that have it."""
    where: dict[str, list[int]] = {}
    for item in choices:
        if item.fault:
            where.setdefault(item.fault, []).append(item.completion.index)
    return [f"Completion {', '.join(map(str, indices))} {fault}." for fault, indices in where.items()]

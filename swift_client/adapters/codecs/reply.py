"""The Reply that every codec builds from its parsed choices: their order, token counts and notes on faults."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct, field

from swift_client.adapters.codecs.lenient_json import decode_counts, decode_or_none
from swift_client.adapters.providers.provider import Reply
from swift_client.errors import ProviderError
from swift_client.types import Completion, FinishReason, ToolCall, Usage

MAX_CHOICES = 10_000  # choices of one reply that are read; no server returns as many

# Providers' finish reasons in snake case, by ours (OpenAI, TGI, vLLM, llama.cpp, LM Studio, Mistral, DeepSeek, GLM,
# Google, Cohere, Anthropic, Bedrock, watsonx). Many servers send null for a reply that ended by itself.
_SPELLINGS: dict[FinishReason, str] = {
    "stop": "stop stopped eos eos_token eos_found stop_sequence stop_str stop_string stop_string_found stop_token "
    "stop_word word end end_turn end_of_turn end_of_message end_of_text end_of_sequence endoftext complete completed "
    "finish finished done success succeeded normal natural matched_stop null none",
    "length": "length max_length max_tokens max_token max_new_tokens max_output_tokens max_completion_tokens "
    "max_output max_predicted_tokens_reached model_length incomplete limit token_limit out_of_tokens error_limit "
    "truncated context_length context_length_exceeded context_length_reached context_window_exceeded "
    "model_context_window_exceeded pause_turn",
    "tool_calls": "tool_calls tool_call tool_use function_call function_calls",
    "content_filter": "content_filter content_filtered filtered safety sensitive moderation error_toxic recitation "
    "prohibited_content blocklist blocked spii language model_armor guardrail guardrail_intervened image_safety "
    "image_prohibited_content image_recitation",
    "refusal": "refusal refused",
    "error": "error network_error abort aborted cancel cancelled canceled user_cancel user_cancelled user_stopped "
    "interrupted timeout time_limit insufficient_system_resource overloaded unavailable model_unloaded failed failure "
    "in_progress queued not_finished other image_other no_image malformed_function_call unexpected_tool_call "
    "too_many_tool_calls missing_thought_signature malformed_response repetition",
}  # fmt: skip
_FINISH_REASONS = {spelling: reason for reason, spellings in _SPELLINGS.items() for spelling in spellings.split()}
_WORD_BREAK = re.compile(r"(?<=[a-z])(?=[A-Z])|[\s.-]+")


@dataclass(frozen=True, eq=False, kw_only=True)
class ParsedChoice:
    """A completion, with the facts that the reply needs about it."""

    completion: Completion
    index: int | None  # the index in the wire format, if it has one
    # Number of tokens that the server listed, including thinking and end-of-turn tokens.
    n_listed_tokens: int = 0
    # Whether listed logprobs were equal, which needs the texts of the tokens to tell them apart.
    has_ties: bool = False
    # The fault of its logprobs, as the end of a sentence about the completion.
    fault: str | None = None
    error: ProviderError | None = None  # the server's error that ended it
    # "words" ended to call a tool but have no call; "calls" have no words. Some proxies write one answer as both.
    part: Literal["words", "calls"] | None = None


@dataclass(kw_only=True)
class ReplyMetadata:
    """The model and the token counts of a reply, as the server reports them."""

    model: str | None = None
    system_fingerprint: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None  # includes thinking
    cached_tokens: int = 0  # prompt tokens that were read from a cache
    # Whether ``completion_tokens`` is known to count one choice only.
    counts_one_choice: bool = False


class _DetailCounts(Struct, gc=False):
    cached_tokens: int | None = None


class _CachedCounts(Struct, gc=False):
    """Every provider's name for the number of prompt tokens that it read from its cache."""

    prompt_tokens_details: _DetailCounts | None = None  # OpenAI's chat completions, and most that follow them
    input_tokens_details: _DetailCounts | None = None  # OpenAI's Responses
    prompt_cache_hit_tokens: int | None = None  # DeepSeek
    cache_read_input_tokens: int | None = None  # Anthropic
    google: int | None = field(name="cachedContentTokenCount", default=None)


def count_cached_tokens(usage: Raw) -> int:
    """Return the number of cached prompt tokens in a reply's usage object; 0 if there is none."""
    counts = decode_counts(usage, _CachedCounts) or _CachedCounts()
    # Every provider fills in one of the fields.
    details = counts.prompt_tokens_details or counts.input_tokens_details or _DetailCounts()
    by_provider = details.cached_tokens, counts.prompt_cache_hit_tokens, counts.cache_read_input_tokens, counts.google
    return max(0, *(count or 0 for count in by_provider))


def normalize_finish_reason(reason: str | None) -> FinishReason:
    """Translate a provider's finish reason to ours; "unknown" for a word that is not in the table."""
    if not reason:
        return "stop"
    word = _WORD_BREAK.sub("_", reason.strip()).lower().removeprefix("finish_reason_")
    return _FINISH_REASONS.get(word) or ("error" if "error" in word else "unknown")


def canonical_tool_calls(calls: Iterable[dict[str, Any]]) -> str:
    """Encode tool calls as JSON that is equal for equal calls: no ids, sorted keys, arguments parsed."""
    plain = []
    for call in calls:
        arguments = call.get("arguments")
        parsed = _decode_arguments(arguments) if isinstance(arguments, str) else arguments
        plain.append({"name": call.get("name"), "arguments": arguments if parsed is None else parsed})
    return msgspec.json.encode(plain, order="deterministic").decode()


def read_tool_calls(calls: Iterable[dict[str, Any]]) -> tuple[ToolCall, ...]:
    """Return the calls with their arguments as sent, or as JSON if the wire format has an object."""
    return tuple(ToolCall(name=_to_text(call.get("name")), arguments=_to_text(call.get("arguments"))) for call in calls)


def _to_text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def _decode_arguments(arguments: str) -> dict[str, Any] | None:
    """Decode a tool call's arguments, which some servers encode twice; None if they are not an object."""
    data = arguments.encode("utf-8", "replace")
    if inner := decode_or_none(data, str):
        data = inner.encode("utf-8", "replace")
    return decode_or_none(data, dict)


def build_reply(choices: list[ParsedChoice], metadata: ReplyMetadata, notes: Iterable[str] = ()) -> Reply:
    """Build the Reply.

    The server's counts are trusted unless they are missing or cannot be right for several choices: llama.cpp counts
    one choice only, and others may too. Then the listed tokens are counted. If none are listed, the reported count is
    taken as that of every choice. End-of-turn tokens may be listed without being counted.

    Args:
        choices: in the order of arrival.
        metadata: as reported for the reply.
        notes: further notes for the user.
    """
    choices = _sort_choices(_join_parts(choices))
    error = next((choice.error for choice in choices if choice.error), None)
    n_listed, count = sum(choice.n_listed_tokens for choice in choices), metadata.completion_tokens
    too_low = len(choices) > 1 and (metadata.counts_one_choice or (count or 0) + len(choices) < n_listed)
    estimated = count is None or count < 0 or too_low
    if estimated:  # the listed tokens, or the reported count for every choice
        count = n_listed or (count or 0) * len(choices)
    prompt_count = max(metadata.prompt_tokens or 0, 0)
    usage = Usage(
        prompt_tokens=prompt_count,
        cached_prompt_tokens=min(metadata.cached_tokens, prompt_count),
        completion_tokens=max(count or 0, 0),
        estimated=estimated or metadata.prompt_tokens is None,
    )
    completions = tuple(choice.completion for choice in choices)
    notes = (*notes, *_fault_notes(choices))
    return Reply(
        completions=completions,
        usage=usage,
        model=metadata.model,
        system_fingerprint=metadata.system_fingerprint,
        notes=notes,
        error=error,
    )


def _join_parts(choices: list[ParsedChoice]) -> list[ParsedChoice]:
    """Join words to the calls that follow them as a choice of their own; the words are the completion's text."""
    joined: list[ParsedChoice] = []
    for choice in choices:
        if choice.part == "calls" and joined and joined[-1].part == "words":
            n_tokens = joined[-1].n_listed_tokens + choice.n_listed_tokens
            completion = replace(joined[-1].completion, tool_calls=choice.completion.tool_calls)
            joined[-1] = replace(joined[-1], completion=completion, n_listed_tokens=n_tokens, part=None)
        else:
            joined.append(choice)
    return joined


def _sort_choices(choices: list[ParsedChoice]) -> list[ParsedChoice]:
    """Sort by wire index; keep the order of arrival if the indices are missing, repeated or impossible."""
    indices = [choice.index for choice in choices if choice.index is not None and is_wire_index(choice.index)]
    if len(set(indices)) < len(choices):
        indices = list(range(len(choices)))
    by_index = sorted(zip(indices, choices, strict=True), key=lambda pair: pair[0])
    return [replace(choice, completion=replace(choice.completion, index=index)) for index, choice in by_index]


def is_wire_index(index: object) -> bool:
    """Return whether it can be the number of a choice."""
    return type(index) is int and 0 <= index < MAX_CHOICES


def _fault_notes(choices: list[ParsedChoice]) -> list[str]:
    """Return one note per fault, with the indices of the completions that have it."""
    indices_by_fault: dict[str, list[int]] = {}
    for choice in choices:
        faults = f"{choice.fault}." if choice.fault else "", f"failed: {choice.error}" if choice.error else ""
        for fault in filter(None, faults):
            indices_by_fault.setdefault(fault, []).append(choice.completion.index)
    return [f"Completion {', '.join(map(str, indices))} {fault}" for fault, indices in indices_by_fault.items()]

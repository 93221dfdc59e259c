"""One writer per codec: encodes logical completions in its wire format, as a body and as a stream."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.codecs.logical import Case, LogicalCompletion, LogicalToken


@dataclass(frozen=True)
class Writer:
    """The functions that encode a case in one wire format."""

    codec: str
    features: frozenset[str]
    """Features of the format: "logprobs", "bytes", "refusal", "calls", "repeats", "filter", "thought",
    "thinking tokens", "several"."""
    write_body: Callable[[Case], bytes]
    write_stream: Callable[[Case, int], bytes]
    """With the given number of tokens per event."""


def encode_json(value: Any) -> bytes:
    """Encode JSON as servers do, with characters unescaped."""
    return json.dumps(value, ensure_ascii=False).encode()


def encode_events(chunks: Sequence[Any], *, named: bool = False, done: bool = False) -> bytes:
    """Encode server-sent events."""
    lines = [
        (f"event: {chunk['type']}\n".encode() if named else b"") + b"data: " + encode_json(chunk) for chunk in chunks
    ]
    return b"".join(line + b"\n\n" for line in [*lines, *([b"data: [DONE]"] if done else [])])


def split_deltas(completion: LogicalCompletion, size: int) -> list[tuple[str, Sequence[LogicalToken] | None]]:
    """Split a completion into deltas of text and tokens; servers hold back half characters."""
    if completion.tokens is None:
        return [(completion.text[index : index + 3], None) for index in range(0, len(completion.text), 3)]
    parts: list[tuple[str, Sequence[LogicalToken] | None]] = []
    pending: list[LogicalToken] = []
    for number, token in enumerate(completion.tokens, 1):
        pending.append(token)
        try:
            text = b"".join(item.raw for item in pending).decode()
        except UnicodeDecodeError:
            continue
        if len(pending) >= size or number == len(completion.tokens):
            parts.append((text, pending))
            pending = []
    return parts


def count_tokens(case: Case) -> int:
    """Count the tokens of all completions as a server does; one per completion without listed tokens."""
    return sum(
        len(item.thinking_tokens) + len(item.tokens) if item.tokens is not None else 1 for item in case.completions
    )


# --- chat ---------------------------------------------------------------------------------------------------------


def chat_entry(token: LogicalToken) -> dict[str, Any]:
    """Return one token of ``logprobs.content``."""
    return {
        **_chat_alternative((token.raw, token.logprob)),
        "top_logprobs": list(map(_chat_alternative, token.top)),
    }


def _chat_alternative(pair: tuple[bytes, float | None]) -> dict[str, Any]:
    raw, logprob = pair
    return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}


def _chat_calls(completion: LogicalCompletion) -> list[dict[str, Any]]:
    return [
        {"index": index, "id": f"call_{index}", "type": "function",
         "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])}}
        for index, call in enumerate(completion.calls)
    ]  # fmt: skip


def chat_choice(completion: LogicalCompletion, index: int) -> dict[str, Any]:
    """Return one choice."""
    is_refusal = completion.finish_reason == "refusal"
    message: dict[str, Any] = {"role": "assistant", "content": None if is_refusal else completion.text, "refusal": None}
    message |= {"refusal": completion.text} if is_refusal else {}
    message |= {"tool_calls": _chat_calls(completion)} if completion.calls else {}
    message |= {"reasoning_content": completion.thinking_text} if completion.thinking_text else {}
    tokens = completion.tokens and [*_tagged_thinking(completion), *completion.tokens]
    logprobs = None if tokens is None else {"content": list(map(chat_entry, tokens))}
    finish = "stop" if is_refusal else completion.finish_reason
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}


def _tagged_thinking(completion: LogicalCompletion) -> list[LogicalToken]:
    """Return the tokens of the thinking between their tags, as servers list them."""
    tags = [LogicalToken(mark, -0.5, ((mark, -0.5),)) for mark in (b"<think>", b"\n", b"</think>", b"\n\n")]
    return [*tags[:2], *completion.thinking_tokens, *tags[2:]] if completion.thinking_tokens else []


def _openai_usage(case: Case) -> dict[str, int]:
    count = count_tokens(case)
    return {"prompt_tokens": case.prompt_tokens, "completion_tokens": count, "total_tokens": case.prompt_tokens + count}


def _chat_body(case: Case) -> bytes:
    choices = [chat_choice(completion, index) for index, completion in enumerate(case.completions)]
    return encode_json({"object": "chat.completion", "model": "m", "choices": choices, "usage": _openai_usage(case)})


def _chat_stream(case: Case, size: int) -> bytes:
    def chunk(index: int, delta: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return {"model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": None, **fields}]}

    chunks = []
    for index, completion in enumerate(case.completions):
        field = "refusal" if completion.finish_reason == "refusal" else "content"
        chunks.append(chunk(index, {"role": "assistant", "content": ""}, logprobs=None))
        if completion.thinking_text:
            tagged = (
                {"content": list(map(chat_entry, _tagged_thinking(completion)))} if completion.thinking_tokens else None
            )
            chunks.append(chunk(index, {"reasoning_content": completion.thinking_text}, logprobs=tagged))
        for text, tokens in split_deltas(completion, size):
            logprobs = None if tokens is None else {"content": list(map(chat_entry, tokens)), "refusal": None}
            chunks.append(chunk(index, {field: text}, logprobs=logprobs))
        if completion.calls:
            chunks.append(chunk(index, {"tool_calls": _chat_calls(completion)}))
        chunks.append(chunk(index, {}, finish_reason="stop" if field == "refusal" else completion.finish_reason))
    return encode_events([*chunks, {"model": "m", "choices": [], "usage": _openai_usage(case)}], done=True)


# --- legacy completions -------------------------------------------------------------------------------------------


def _legacy_text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{value:02x}" for value in raw)


def legacy_logprobs(tokens: Sequence[LogicalToken] | None, offset: int = 0) -> dict[str, Any] | None:
    """Return parallel arrays."""
    if tokens is None:
        return None
    texts = [_legacy_text(token.raw) for token in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{_legacy_text(raw): number for raw, number in token.top} for token in tokens],
        "text_offset": [offset + sum(map(len, texts[:index])) for index in range(len(texts))],
    }


def _legacy_body(case: Case) -> bytes:
    choices = [
        {"index": index, "text": completion.text, "logprobs": legacy_logprobs(completion.tokens),
         "finish_reason": completion.finish_reason}
        for index, completion in enumerate(case.completions)
    ]  # fmt: skip
    return encode_json({"object": "text_completion", "model": "m", "choices": choices, "usage": _openai_usage(case)})


def _legacy_stream(case: Case, size: int) -> bytes:
    chunks = []
    for index, completion in enumerate(case.completions):
        for text, tokens in split_deltas(completion, size):
            choice = {"index": index, "text": text, "logprobs": legacy_logprobs(tokens), "finish_reason": None}
            chunks.append({"model": "m", "choices": [choice]})
        end = {"index": index, "text": "", "logprobs": None, "finish_reason": completion.finish_reason}
        chunks.append({"model": "m", "choices": [end]})
    return encode_events([*chunks, {"model": "m", "choices": [], "usage": _openai_usage(case)}], done=True)


# --- Google's generateContent -------------------------------------------------------------------------------------


def gemini_entry(raw: bytes, logprob: float | None) -> dict[str, Any]:
    """Return one token as proto3 encodes it: without zeros and empty texts; parts of a character have only an id."""
    entry = {"token": raw.decode("utf-8", "replace"), "tokenId": zlib.crc32(raw), "logProbability": logprob}
    return {name: value for name, value in entry.items() if value not in (0.0, "")}


def gemini_logprobs(tokens: Sequence[LogicalToken] | None) -> dict[str, Any]:
    """Return two parallel lists; the second only if there are alternatives."""
    if tokens is None:
        return {}
    result: dict[str, Any] = {"chosenCandidates": [gemini_entry(token.raw, token.logprob) for token in tokens]}
    if any(token.top for token in tokens):
        rows = [[gemini_entry(*pair) for pair in token.top] for token in tokens]
        result["topCandidates"] = [{"candidates": row} if row else {} for row in rows]
    return {"logprobsResult": result, "avgLogprobs": -11.5}


_GEMINI_FINISH_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY", "tool_calls": "STOP"}


def _gemini_parts(completion: LogicalCompletion) -> list[dict[str, Any]]:
    thinking = [{"text": completion.thinking_text, "thought": True}] if completion.thinking_text else []
    calls = [{"functionCall": {"name": call["name"], "args": call["arguments"]}} for call in completion.calls]
    return [*thinking, *([{"text": completion.text}] if completion.text else []), *calls]


def _gemini_reply(case: Case, *candidates: dict[str, Any]) -> dict[str, Any]:
    thoughts = {"thoughtsTokenCount": 1} if any(item.thinking_text for item in case.completions) else {}
    count = count_tokens(case) - len(thoughts)
    usage = {"promptTokenCount": case.prompt_tokens, "candidatesTokenCount": count, **thoughts}
    return {"candidates": list(candidates), "usageMetadata": usage, "modelVersion": "m", "responseId": "r"}


def gemini_candidate(index: int, parts: list[Any], **fields: Any) -> dict[str, Any]:
    """Return one candidate; the first has no index."""
    return {**({"index": index} if index else {}), "content": {"role": "model", "parts": parts}, **fields}


def _gemini_body(case: Case) -> bytes:
    candidates = [
        gemini_candidate(
            index,
            _gemini_parts(completion),
            finishReason=_GEMINI_FINISH_REASONS[completion.finish_reason],
            **gemini_logprobs(completion.tokens),
        )
        for index, completion in enumerate(case.completions)
    ]
    return encode_json(_gemini_reply(case, *candidates))


def _gemini_stream(case: Case, size: int) -> bytes:
    chunks = []
    for index, completion in enumerate(case.completions):
        if completion.thinking_text:
            parts = [{"text": completion.thinking_text, "thought": True}]
            chunks.append(_gemini_reply(case, gemini_candidate(index, parts)))
        for text, tokens in split_deltas(completion, size):
            candidate = gemini_candidate(index, [{"text": text}], **gemini_logprobs(tokens))
            chunks.append(_gemini_reply(case, candidate))
        parts = [part for part in _gemini_parts(completion) if "functionCall" in part]
        end = gemini_candidate(index, parts, finishReason=_GEMINI_FINISH_REASONS[completion.finish_reason])
        chunks.append(_gemini_reply(case, end))
    return encode_events(chunks)


# --- Anthropic's messages -----------------------------------------------------------------------------------------


_ANTHROPIC_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "refusal": "refusal"}


def _anthropic_usage(case: Case) -> dict[str, int]:
    cached = {"cache_creation_input_tokens": 2, "cache_read_input_tokens": 4}
    return {"input_tokens": case.prompt_tokens - 6, **cached, "output_tokens": count_tokens(case)}


def _anthropic_blocks(completion: LogicalCompletion) -> list[dict[str, Any]]:
    thinking = (
        [{"type": "thinking", "thinking": completion.thinking_text, "signature": "xx"}]
        if completion.thinking_text
        else []
    )
    text = [{"type": "text", "text": completion.text, "citations": None}] if completion.text else []
    calls = [
        {"type": "tool_use", "id": f"toolu_{index}", "name": call["name"], "input": call["arguments"]}
        for index, call in enumerate(completion.calls)
    ]
    return [*thinking, *text, *calls]


def _anthropic_message(case: Case, **fields: Any) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None, **fields}


def _anthropic_body(case: Case) -> bytes:
    (completion,) = case.completions
    content, end = _anthropic_blocks(completion), _ANTHROPIC_STOP_REASONS[completion.finish_reason]
    return encode_json(_anthropic_message(case, content=content, stop_reason=end, usage=_anthropic_usage(case)))


def _anthropic_stream(case: Case, size: int) -> bytes:
    (completion,) = case.completions
    initial = {**_anthropic_usage(case), "output_tokens": 1}
    start = _anthropic_message(case, content=[], stop_reason=None, usage=initial)
    chunks: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(_anthropic_blocks(completion)):
        match block["type"]:
            case "text":
                empty = {**block, "text": ""}
                deltas = [{"type": "text_delta", "text": text} for text, _ in split_deltas(completion, size)]
            case "thinking":
                empty = {**block, "thinking": ""}
                deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
            case _:
                empty, arguments = {**block, "input": {}}, json.dumps(block["input"])
                pieces = [arguments[index : index + 4] for index in range(0, len(arguments), 4)]
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        chunks.append({"type": "content_block_start", "index": index, "content_block": empty})
        chunks += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        chunks.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": _ANTHROPIC_STOP_REASONS[completion.finish_reason], "stop_sequence": None}
    usage = {"output_tokens": count_tokens(case)}
    chunks += [{"type": "message_delta", "delta": end, "usage": usage}, {"type": "message_stop"}]
    return encode_events(chunks, named=True)


# --- OpenAI's responses -------------------------------------------------------------------------------------------


def responses_body(case: Case, output: list[Any], status: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return the complete response."""
    (completion,) = case.completions
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    reason = reasons.get(completion.finish_reason)
    count = count_tokens(case)
    return {
        "id": "resp_1",
        "object": "response",
        "model": "m",
        "error": None,
        "status": status or ("incomplete" if reason else "completed"),
        "incomplete_details": {"reason": reason} if reason else None,
        "output": output,
        "usage": {"input_tokens": case.prompt_tokens, "output_tokens": count},
        **fields,
    }


def responses_items(completion: LogicalCompletion) -> list[dict[str, Any]]:
    """Return the items: reasoning, calls and the message."""
    items: list[dict[str, Any]] = (
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": completion.thinking_text}], "id": "rs_1"}]
        if completion.thinking_text
        else []
    )
    for index, call in enumerate(completion.calls):
        arguments = json.dumps(call["arguments"])
        items.append(
            {"type": "function_call", "call_id": f"call_{index}", "name": call["name"], "arguments": arguments}
        )
    if completion.finish_reason == "refusal":
        part: dict[str, Any] = {"type": "refusal", "refusal": completion.text}
    else:
        logprobs = [round_logprobs(chat_entry(token)) for token in completion.tokens or ()]
        part = {"type": "output_text", "text": completion.text, "annotations": [], "logprobs": logprobs}
    if not completion.calls:
        items.append({"type": "message", "role": "assistant", "status": "completed", "content": [part]})
    return items


def round_logprobs(entry: dict[str, Any]) -> dict[str, Any]:
    """Round to the six decimals of the final objects."""
    result = {**entry, "logprob": round(entry["logprob"], 6)}
    return (
        {**result, "top_logprobs": list(map(round_logprobs, entry["top_logprobs"]))}
        if "top_logprobs" in entry
        else result
    )


def remove_bytes(entry: dict[str, Any]) -> dict[str, Any]:
    """Remove the bytes, which a delta's entries do not have."""
    result = {name: value for name, value in entry.items() if name != "bytes"}
    return (
        {**result, "top_logprobs": list(map(remove_bytes, entry["top_logprobs"]))}
        if "top_logprobs" in entry
        else result
    )


def _responses_body(case: Case) -> bytes:
    (completion,) = case.completions
    return encode_json(responses_body(case, responses_items(completion)))


def _responses_stream(case: Case, size: int) -> bytes:
    (completion,) = case.completions
    items = responses_items(completion)
    end = responses_body(case, items)
    initial = {**end, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    chunks: list[dict[str, Any]] = [{"type": "response.created", "response": initial}]
    for index, item in enumerate(items):
        chunks.append({"type": "response.output_item.added", "output_index": index, "item": {**item, "content": []}})
        location = {"output_index": index, "content_index": 0, "obfuscation": "xx"}
        if item["type"] == "message":
            kind = "refusal" if completion.finish_reason == "refusal" else "output_text"
            for text, tokens in split_deltas(completion, size):
                entries = [remove_bytes(chat_entry(token)) for token in tokens or ()]
                chunks.append({"type": f"response.{kind}.delta", "delta": text, "logprobs": entries, **location})
            chunks.append({"type": f"response.{kind}.done", "text": completion.text, **location})
            part = {**item["content"][0], "logprobs": []}
            chunks.append({"type": "response.content_part.done", "part": part, **location})
        elif item["type"] == "function_call":
            chunks.append({"type": "response.function_call_arguments.delta", "delta": item["arguments"], **location})
        chunks.append({"type": "response.output_item.done", "output_index": index, "item": item})
    chunks.append({"type": f"response.{end['status']}", "response": end})
    return encode_events(chunks, named=True)


WRITERS = (
    Writer(
        "openai_chat",
        frozenset(
            {"logprobs", "bytes", "refusal", "calls", "repeats", "filter", "thought", "thinking tokens", "several"}
        ),
        _chat_body,
        _chat_stream,
    ),
    Writer("openai_completions", frozenset({"logprobs", "bytes", "filter", "several"}), _legacy_body, _legacy_stream),
    Writer(
        "gemini",
        frozenset({"logprobs", "calls", "repeats", "filter", "thought", "several"}),
        _gemini_body,
        _gemini_stream,
    ),
    Writer(
        "openai_responses",
        frozenset({"logprobs", "bytes", "refusal", "calls", "repeats", "filter", "thought"}),
        _responses_body,
        _responses_stream,
    ),
    Writer("anthropic", frozenset({"refusal", "calls", "thought"}), _anthropic_body, _anthropic_stream),
)

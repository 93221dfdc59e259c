"""One writer for each codec: logical completions as that wire format has them, in one piece and as a stream."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.codecs.logical import Case, Logical, Said


@dataclass(frozen=True)
class Writer:
    """How to write a case."""

    codec: str
    carries: frozenset[str]
    """What the shape can hold: "logprobs", "bytes", "refusal", "calls", "repeats", "filter", "thought",
    "thinking tokens", "several"."""
    whole: Callable[[Case], bytes]
    streamed: Callable[[Case, int], bytes]
    """With so many tokens in each event."""


def encoded(value: Any) -> bytes:
    """Write JSON as servers do, characters unescaped."""
    return json.dumps(value, ensure_ascii=False).encode()


def events(chunks: Sequence[Any], *, named: bool = False, done: bool = False) -> bytes:
    """Write server-sent events."""
    lines = [(f"event: {chunk['type']}\n".encode() if named else b"") + b"data: " + encoded(chunk) for chunk in chunks]
    return b"".join(line + b"\n\n" for line in [*lines, *([b"data: [DONE]"] if done else [])])


def groups(completion: Logical, size: int) -> list[tuple[str, Sequence[Said] | None]]:
    """Cut a completion into deltas of text and tokens; servers hold back half characters."""
    if completion.tokens is None:
        return [(completion.text[at : at + 3], None) for at in range(0, len(completion.text), 3)]
    parts: list[tuple[str, Sequence[Said] | None]] = []
    pending: list[Said] = []
    for number, token in enumerate(completion.tokens, 1):
        pending.append(token)
        try:
            text = b"".join(each.spelled for each in pending).decode()
        except UnicodeDecodeError:
            continue
        if len(pending) >= size or number == len(completion.tokens):
            parts.append((text, pending))
            pending = []
    return parts


def counted(case: Case) -> int:
    """Tokens of all completions, as a server counts them; where none are listed, one a completion."""
    return sum(len(each.thinking) + len(each.tokens) if each.tokens is not None else 1 for each in case.completions)


# --- chat ---------------------------------------------------------------------------------------------------------


def chat_entry(token: Said) -> dict[str, Any]:
    """One token of ``logprobs.content``."""
    return {
        **_chat_alternative((token.spelled, token.logprob)),
        "top_logprobs": list(map(_chat_alternative, token.top)),
    }


def _chat_alternative(pair: tuple[bytes, float | None]) -> dict[str, Any]:
    spelled, logprob = pair
    return {"token": spelled.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(spelled)}


def _chat_calls(completion: Logical) -> list[dict[str, Any]]:
    return [
        {"index": at, "id": f"call_{at}", "type": "function",
         "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])}}
        for at, call in enumerate(completion.calls)
    ]  # fmt: skip


def chat_choice(completion: Logical, index: int) -> dict[str, Any]:
    """One choice."""
    refused = completion.finish == "refusal"
    message: dict[str, Any] = {"role": "assistant", "content": None if refused else completion.text, "refusal": None}
    message |= {"refusal": completion.text} if refused else {}
    message |= {"tool_calls": _chat_calls(completion)} if completion.calls else {}
    message |= {"reasoning_content": completion.thought} if completion.thought else {}
    tokens = completion.tokens and [*_marked(completion), *completion.tokens]
    logprobs = None if tokens is None else {"content": list(map(chat_entry, tokens))}
    finish = "stop" if refused else completion.finish
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}


def _marked(completion: Logical) -> list[Said]:
    """Return the thought's tokens between their marks, as servers list them."""
    marks = [Said(mark, -0.5, ((mark, -0.5),)) for mark in (b"<think>", b"\n", b"</think>", b"\n\n")]
    return [*marks[:2], *completion.thinking, *marks[2:]] if completion.thinking else []


def _openai_usage(case: Case) -> dict[str, int]:
    count = counted(case)
    return {"prompt_tokens": case.prompt_tokens, "completion_tokens": count, "total_tokens": case.prompt_tokens + count}


def _chat_whole(case: Case) -> bytes:
    choices = [chat_choice(completion, index) for index, completion in enumerate(case.completions)]
    return encoded({"object": "chat.completion", "model": "m", "choices": choices, "usage": _openai_usage(case)})


def _chat_streamed(case: Case, size: int) -> bytes:
    def chunk(index: int, delta: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": None, **more}]}

    chunks = []
    for index, completion in enumerate(case.completions):
        field = "refusal" if completion.finish == "refusal" else "content"
        chunks.append(chunk(index, {"role": "assistant", "content": ""}, logprobs=None))
        if completion.thought:
            marked = {"content": list(map(chat_entry, _marked(completion)))} if completion.thinking else None
            chunks.append(chunk(index, {"reasoning_content": completion.thought}, logprobs=marked))
        for text, tokens in groups(completion, size):
            logprobs = None if tokens is None else {"content": list(map(chat_entry, tokens)), "refusal": None}
            chunks.append(chunk(index, {field: text}, logprobs=logprobs))
        if completion.calls:
            chunks.append(chunk(index, {"tool_calls": _chat_calls(completion)}))
        chunks.append(chunk(index, {}, finish_reason="stop" if field == "refusal" else completion.finish))
    return events([*chunks, {"model": "m", "choices": [], "usage": _openai_usage(case)}], done=True)


# --- legacy completions -------------------------------------------------------------------------------------------


def _legacy_text(spelled: bytes) -> str:
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{value:02x}" for value in spelled)


def legacy_logprobs(tokens: Sequence[Said] | None, offset: int = 0) -> dict[str, Any] | None:
    """Parallel arrays."""
    if tokens is None:
        return None
    texts = [_legacy_text(token.spelled) for token in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{_legacy_text(spelled): number for spelled, number in token.top} for token in tokens],
        "text_offset": [offset + sum(map(len, texts[:at])) for at in range(len(texts))],
    }


def _legacy_whole(case: Case) -> bytes:
    choices = [
        {"index": index, "text": completion.text, "logprobs": legacy_logprobs(completion.tokens),
         "finish_reason": completion.finish}
        for index, completion in enumerate(case.completions)
    ]  # fmt: skip
    return encoded({"object": "text_completion", "model": "m", "choices": choices, "usage": _openai_usage(case)})


def _legacy_streamed(case: Case, size: int) -> bytes:
    chunks = []
    for index, completion in enumerate(case.completions):
        for text, tokens in groups(completion, size):
            choice = {"index": index, "text": text, "logprobs": legacy_logprobs(tokens), "finish_reason": None}
            chunks.append({"model": "m", "choices": [choice]})
        end = {"index": index, "text": "", "logprobs": None, "finish_reason": completion.finish}
        chunks.append({"model": "m", "choices": [end]})
    return events([*chunks, {"model": "m", "choices": [], "usage": _openai_usage(case)}], done=True)


# --- Google's generateContent -------------------------------------------------------------------------------------


def gemini_entry(spelled: bytes, logprob: float | None) -> dict[str, Any]:
    """One token as proto3 writes it: what is zero or empty is left out; pieces of characters have only a number."""
    entry = {"token": spelled.decode("utf-8", "replace"), "tokenId": zlib.crc32(spelled), "logProbability": logprob}
    return {name: value for name, value in entry.items() if value not in (0.0, "")}


def gemini_logprobs(tokens: Sequence[Said] | None) -> dict[str, Any]:
    """Two parallel lists; the second only where alternatives were asked for."""
    if tokens is None:
        return {}
    result: dict[str, Any] = {"chosenCandidates": [gemini_entry(token.spelled, token.logprob) for token in tokens]}
    if any(token.top for token in tokens):
        rows = [[gemini_entry(*pair) for pair in token.top] for token in tokens]
        result["topCandidates"] = [{"candidates": row} if row else {} for row in rows]
    return {"logprobsResult": result, "avgLogprobs": -11.5}


_GEMINI_ENDS = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY", "tool_calls": "STOP"}


def _gemini_parts(completion: Logical) -> list[dict[str, Any]]:
    thought = [{"text": completion.thought, "thought": True}] if completion.thought else []
    calls = [{"functionCall": {"name": call["name"], "args": call["arguments"]}} for call in completion.calls]
    return [*thought, *([{"text": completion.text}] if completion.text else []), *calls]


def _gemini_reply(case: Case, *candidates: dict[str, Any]) -> dict[str, Any]:
    thoughts = {"thoughtsTokenCount": 1} if any(each.thought for each in case.completions) else {}
    count = counted(case) - len(thoughts)
    usage = {"promptTokenCount": case.prompt_tokens, "candidatesTokenCount": count, **thoughts}
    return {"candidates": list(candidates), "usageMetadata": usage, "modelVersion": "m", "responseId": "r"}


def gemini_candidate(index: int, parts: list[Any], **more: Any) -> dict[str, Any]:
    """One candidate; the first has no index."""
    return {**({"index": index} if index else {}), "content": {"role": "model", "parts": parts}, **more}


def _gemini_whole(case: Case) -> bytes:
    candidates = [
        gemini_candidate(
            index,
            _gemini_parts(completion),
            finishReason=_GEMINI_ENDS[completion.finish],
            **gemini_logprobs(completion.tokens),
        )
        for index, completion in enumerate(case.completions)
    ]
    return encoded(_gemini_reply(case, *candidates))


def _gemini_streamed(case: Case, size: int) -> bytes:
    chunks = []
    for index, completion in enumerate(case.completions):
        if completion.thought:
            parts = [{"text": completion.thought, "thought": True}]
            chunks.append(_gemini_reply(case, gemini_candidate(index, parts)))
        for text, tokens in groups(completion, size):
            candidate = gemini_candidate(index, [{"text": text}], **gemini_logprobs(tokens))
            chunks.append(_gemini_reply(case, candidate))
        parts = [part for part in _gemini_parts(completion) if "functionCall" in part]
        end = gemini_candidate(index, parts, finishReason=_GEMINI_ENDS[completion.finish])
        chunks.append(_gemini_reply(case, end))
    return events(chunks)


# --- Anthropic's messages -----------------------------------------------------------------------------------------


_ANTHROPIC_ENDS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "refusal": "refusal"}


def _anthropic_usage(case: Case) -> dict[str, int]:
    cached = {"cache_creation_input_tokens": 2, "cache_read_input_tokens": 4}
    return {"input_tokens": case.prompt_tokens - 6, **cached, "output_tokens": counted(case)}


def _anthropic_blocks(completion: Logical) -> list[dict[str, Any]]:
    thought = [{"type": "thinking", "thinking": completion.thought, "signature": "xx"}] if completion.thought else []
    text = [{"type": "text", "text": completion.text, "citations": None}] if completion.text else []
    calls = [
        {"type": "tool_use", "id": f"toolu_{at}", "name": call["name"], "input": call["arguments"]}
        for at, call in enumerate(completion.calls)
    ]
    return [*thought, *text, *calls]


def _anthropic_message(case: Case, **more: Any) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None, **more}


def _anthropic_whole(case: Case) -> bytes:
    (completion,) = case.completions
    content, end = _anthropic_blocks(completion), _ANTHROPIC_ENDS[completion.finish]
    return encoded(_anthropic_message(case, content=content, stop_reason=end, usage=_anthropic_usage(case)))


def _anthropic_streamed(case: Case, size: int) -> bytes:
    (completion,) = case.completions
    begun = {**_anthropic_usage(case), "output_tokens": 1}
    start = _anthropic_message(case, content=[], stop_reason=None, usage=begun)
    chunks: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(_anthropic_blocks(completion)):
        match block["type"]:
            case "text":
                empty = {**block, "text": ""}
                deltas = [{"type": "text_delta", "text": text} for text, _ in groups(completion, size)]
            case "thinking":
                empty = {**block, "thinking": ""}
                deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
            case _:
                empty, written = {**block, "input": {}}, json.dumps(block["input"])
                pieces = [written[at : at + 4] for at in range(0, len(written), 4)]
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        chunks.append({"type": "content_block_start", "index": index, "content_block": empty})
        chunks += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        chunks.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": _ANTHROPIC_ENDS[completion.finish], "stop_sequence": None}
    usage = {"output_tokens": counted(case)}
    chunks += [{"type": "message_delta", "delta": end, "usage": usage}, {"type": "message_stop"}]
    return events(chunks, named=True)


# --- OpenAI's responses -------------------------------------------------------------------------------------------


def responses_body(case: Case, output: list[Any], status: str | None = None, **more: Any) -> dict[str, Any]:
    """The whole response."""
    (completion,) = case.completions
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    reason = reasons.get(completion.finish)
    count = counted(case)
    return {
        "id": "resp_1",
        "object": "response",
        "model": "m",
        "error": None,
        "status": status or ("incomplete" if reason else "completed"),
        "incomplete_details": {"reason": reason} if reason else None,
        "output": output,
        "usage": {"input_tokens": case.prompt_tokens, "output_tokens": count},
        **more,
    }


def responses_items(completion: Logical) -> list[dict[str, Any]]:
    """Reasoning, calls and the message."""
    items: list[dict[str, Any]] = (
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": completion.thought}], "id": "rs_1"}]
        if completion.thought
        else []
    )
    for at, call in enumerate(completion.calls):
        written = json.dumps(call["arguments"])
        items.append({"type": "function_call", "call_id": f"call_{at}", "name": call["name"], "arguments": written})
    if completion.finish == "refusal":
        part: dict[str, Any] = {"type": "refusal", "refusal": completion.text}
    else:
        logprobs = [rounded(chat_entry(token)) for token in completion.tokens or ()]
        part = {"type": "output_text", "text": completion.text, "annotations": [], "logprobs": logprobs}
    if not completion.calls:
        items.append({"type": "message", "role": "assistant", "status": "completed", "content": [part]})
    return items


def rounded(entry: dict[str, Any]) -> dict[str, Any]:
    """The final objects' logprobs have six decimals."""
    mine = {**entry, "logprob": round(entry["logprob"], 6)}
    return {**mine, "top_logprobs": list(map(rounded, entry["top_logprobs"]))} if "top_logprobs" in entry else mine


def without_bytes(entry: dict[str, Any]) -> dict[str, Any]:
    """A delta's entries have none."""
    mine = {name: value for name, value in entry.items() if name != "bytes"}
    return (
        {**mine, "top_logprobs": list(map(without_bytes, entry["top_logprobs"]))} if "top_logprobs" in entry else mine
    )


def _responses_whole(case: Case) -> bytes:
    (completion,) = case.completions
    return encoded(responses_body(case, responses_items(completion)))


def _responses_streamed(case: Case, size: int) -> bytes:
    (completion,) = case.completions
    items = responses_items(completion)
    end = responses_body(case, items)
    begun = {**end, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    chunks: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for at, item in enumerate(items):
        chunks.append({"type": "response.output_item.added", "output_index": at, "item": {**item, "content": []}})
        where = {"output_index": at, "content_index": 0, "obfuscation": "xx"}
        if item["type"] == "message":
            kind = "refusal" if completion.finish == "refusal" else "output_text"
            for text, tokens in groups(completion, size):
                entries = [without_bytes(chat_entry(token)) for token in tokens or ()]
                chunks.append({"type": f"response.{kind}.delta", "delta": text, "logprobs": entries, **where})
            chunks.append({"type": f"response.{kind}.done", "text": completion.text, **where})
            part = {**item["content"][0], "logprobs": []}
            chunks.append({"type": "response.content_part.done", "part": part, **where})
        elif item["type"] == "function_call":
            chunks.append({"type": "response.function_call_arguments.delta", "delta": item["arguments"], **where})
        chunks.append({"type": "response.output_item.done", "output_index": at, "item": item})
    chunks.append({"type": f"response.{end['status']}", "response": end})
    return events(chunks, named=True)


WRITERS = (
    Writer(
        "openai_chat",
        frozenset(
            {"logprobs", "bytes", "refusal", "calls", "repeats", "filter", "thought", "thinking tokens", "several"}
        ),
        _chat_whole,
        _chat_streamed,
    ),
    Writer(
        "openai_completions", frozenset({"logprobs", "bytes", "filter", "several"}), _legacy_whole, _legacy_streamed
    ),
    Writer(
        "gemini",
        frozenset({"logprobs", "calls", "repeats", "filter", "thought", "several"}),
        _gemini_whole,
        _gemini_streamed,
    ),
    Writer(
        "openai_responses",
        frozenset({"logprobs", "bytes", "refusal", "calls", "repeats", "filter", "thought"}),
        _responses_whole,
        _responses_streamed,
    ),
    Writer("anthropic", frozenset({"refusal", "calls", "thought"}), _anthropic_whole, _anthropic_streamed),
)

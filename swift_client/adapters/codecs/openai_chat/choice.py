"""Decoding of one choice of a chat completion: its text, finish reason and clean arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from swift_client.adapters.codecs.lenient_json import (
    DECODE_ERRORS,
    decode_leniently,
    decode_or_none,
    dump_json,
    has_value,
    repair_json,
)
from swift_client.adapters.codecs.openai_chat.schema import Message, TextChoice, Token, drop_misfits
from swift_client.adapters.codecs.openai_chat.tokens import (
    NUMBER_DECODER,
    TEXT_DECODER,
    TextSource,
    listed_tokens,
    logprob_fields,
    read_thinking,
    token_bytes,
)
from swift_client.adapters.codecs.options import DecodeOptions
from swift_client.adapters.codecs.reasoning import split_thinking
from swift_client.adapters.codecs.reply import (
    ParsedChoice,
    canonical_tool_calls,
    is_wire_index,
    normalize_finish_reason,
    read_tool_calls,
)
from swift_client.adapters.codecs.tokens import answer_tokens
from swift_client.adapters.transport import error_responses
from swift_client.errors import ServerError
from swift_client.logprobs.clean import UnusableLogprobs
from swift_client.types import Completion, FinishReason

_TEXT_CHOICE_DECODER = msgspec.json.Decoder(TextChoice)


def read_choice(
    data: Raw | bytes, *, with_texts: bool, prompt_tokens: int = 0, **options: Unpack[DecodeOptions]
) -> ParsedChoice:
    """Decode one choice.

    Args:
        data: the choice's JSON.
        with_texts: whether to decode the texts of listed tokens at once, which saves a second pass if logprobs tie.
        prompt_tokens: number of prompt tokens that ``echo`` puts before the answer; 0 if the format has no ``echo``.
        options: ``top_logprobs`` and ``token_ids``, see ``DecodeOptions``.

    Raises:
        ValueError, RecursionError: it is not a choice.
    """
    # Decode; if that fails, repair the JSON, then drop fields of wrong types, then the logprobs.
    fault = None
    choice: TextChoice
    decoder = TEXT_DECODER if with_texts else NUMBER_DECODER
    try:
        choice = decoder.decode(data)
    except DECODE_ERRORS:
        data = repair_json(data)
        try:
            choice = decoder.decode(data)
        except DECODE_ERRORS:
            data = dump_json(drop_misfits(decode_leniently(data.decode())))
            try:
                choice = decoder.decode(data)
            except DECODE_ERRORS:
                choice = _TEXT_CHOICE_DECODER.decode(data)
                fault = "has no logprobs: the server sent them in an unknown shape"

    if choice.message is None and choice.text is None and choice.finish_reason is None:
        raise ValueError("it has neither a message nor a text nor a finish reason")

    # The text, and the tokens of it: without an echoed prompt and without an end-of-turn token.
    message = choice.message or Message(content=choice.text)
    calls = _function_calls(message)
    text, source, thinking = _visible_text(message, calls)
    finish = _choice_finish_reason(choice.finish_reason, source)
    tokens = listed_tokens(choice, source)
    skipped = 0
    if tokens and tokens[0].logprob is None and 0 < prompt_tokens < len(tokens):  # a first token has no logprob
        text, skipped = _strip_prompt(text, tokens, prompt_tokens)
    tokens = tokens[skipped : len(tokens) - _has_numbered_end(tokens, choice)]
    start, texts, mismatch = answer_tokens(
        [token.token or "" for token in tokens],
        text,
        lambda: token_bytes(tokens),
        has_thinking=bool(thinking) or has_value(message.reasoning) or has_value(message.reasoning_content),
        markup=source == "calls",
    )

    # The arrays of the answer.
    def redecode(decoder: Decoder[Any]) -> list[Token[Any]]:
        return listed_tokens(decoder.decode(data), source)[skipped:]

    fields: dict[str, Any] = {}
    has_ties = False
    if texts:
        try:
            fields, has_ties = logprob_fields(tokens, slice(start, start + len(texts)), redecode, **options)
        except UnusableLogprobs as error:
            texts, mismatch = [], f"has no logprobs: {error}"
    completion = Completion(
        text=text, finish_reason=finish, tokens=tuple(texts), tool_calls=read_tool_calls(calls), **fields
    )

    # The thinking: its tokens are listed before the answer's, or in a list of their own.
    if thinking:
        thinking_tokens = tokens[:start] if texts else [] if text else tokens
        if separate_tokens := listed_tokens(choice, "thinking"):
            thinking_tokens, redecode = separate_tokens, lambda decoder: separate_tokens
        thought = read_thinking(thinking, thinking_tokens, redecode, **options)
        completion = replace(completion, thinking=replace(thought, finish_reason="stop" if text else finish))
    wire_error = None
    if has_value(choice.error):
        wire_error = error_responses.error_from_object(decode_or_none(choice.error, object))
        completion = replace(completion, finish_reason="error")
    elif finish == "error" and not text and not thinking:
        reason = choice.finish_reason
        wire_error = ServerError(
            f"The completion ended with {reason!r} and no text.", hint="Try again.", retryable=True
        )
    has_calls = bool(message.tool_calls or message.function_call)
    return ParsedChoice(
        completion=completion,
        index=choice.index if is_wire_index(choice.index) else None,
        n_listed_tokens=len(tokens),
        has_ties=has_ties,
        fault=mismatch or fault,
        part="calls" if source == "calls" else "words" if finish == "tool_calls" and not has_calls else None,
        error=wire_error,
    )


def thinking_text(message: Message) -> str:
    """Return the text that a reasoning parser separated from the answer; servers use one of two names, or both."""
    for raw in (message.reasoning, message.reasoning_content):
        if has_value(raw) and (text := decode_or_none(raw, str)):
            return text
    return ""


def _function_calls(message: Message) -> list[dict[str, Any]]:
    """Return the functions that the message calls, and its custom tools, whose input is plain text."""
    calls = []
    for call in message.tool_calls or ():
        if isinstance(call, dict):
            custom = call.get("custom")
            text_input = (
                {"name": custom.get("name"), "arguments": custom.get("input")} if isinstance(custom, dict) else None
            )
            calls.append(call.get("function") or text_input)
    return [call for call in (*calls, message.function_call) if isinstance(call, dict)]


def _visible_text(message: Message, calls: list[dict[str, Any]]) -> tuple[str, TextSource, str]:
    """Return the text of the answer, the field that it comes from, and the thinking before it."""
    thinking = thinking_text(message)
    if message.refusal:
        return message.refusal, "refusal", thinking
    content = message.content
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        refusals = "".join(str(part["refusal"]) for part in parts if isinstance(part.get("refusal"), str))
        content = "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
        if refusals and not content:
            return refusals, "refusal", thinking
    if content:
        inline, answer = split_thinking(content)
        return answer, "content", thinking or inline
    return (canonical_tool_calls(calls), "calls", thinking) if calls else ("", "content", thinking)


def _choice_finish_reason(reason: str | None, source: TextSource) -> FinishReason:
    if source == "refusal":
        return "refusal"
    finish = normalize_finish_reason(reason)
    # With a forced tool OpenAI ends with "stop" although a call is all there is.
    return "tool_calls" if source == "calls" and finish in ("stop", "unknown") else finish


def _strip_prompt(text: str, tokens: list[Token[Any]], count: int) -> tuple[str, int]:
    """Cut off the prompt that ``echo`` put before the answer; also return the number of its tokens.

    A prompt that its tokens do not spell is kept, with its tokens.
    """
    prompt = b"".join(token_bytes(tokens[:count]))
    encoded = text.encode("utf-8", "replace")
    return (encoded[len(prompt) :].decode("utf-8", "replace"), count) if encoded.startswith(prompt) else (text, 0)


def _has_numbered_end(tokens: list[Token[Any]], choice: TextChoice) -> bool:
    """Return whether the last token is an end-of-turn token that is given by its number.

    That is vLLM with ``return_tokens_as_token_ids``. Its ``stop_reason`` is a text if a stop word ended the answer, and
    null or a number if a token did, which is then listed.
    """
    numbered = bool(tokens) and (tokens[-1].token or "").startswith("token_id:")
    return numbered and choice.finish_reason == "stop" and not isinstance(choice.stop_reason, str)

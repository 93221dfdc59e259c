"""Conversion of anything that holds a reply to bytes or completions.

Accepted are bytes and text (JSON, or a recorded stream), mappings, objects of the openai, anthropic, google-genai and
litellm clients and any other pydantic model, raw responses (``.content``), a list of a stream's chunks, a list of
replies, completions, and an agent's trajectories (a list of lists of messages, or its JSON). ``detect`` finds out which
format the bytes have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS, decode_or_none, repair_json
from swift_client.errors import ConfigurationError
from swift_client.types import Completion

_NESTED_LIST = re.compile(rb"\s*\[\s*\[")  # no reply begins so, but trajectories do
# Keys of a chat message; a reply has others, such as the model.
_MESSAGE_KEYS = frozenset(("role", "content", "name", "refusal", "tool_calls", "tool_call_id", "function_call"))


def normalize_reply(reply: object) -> bytes | tuple[Completion, ...]:
    """Return the bytes of a reply, or its completions numbered from 0.

    Args:
        reply: any of the types that the module's docstring lists.

    Raises:
        ConfigurationError: it is not a reply.
        ResponseDecodeError: a trajectory is not a list of messages.
    """
    if isinstance(reply, Completion):
        reply = [reply]
    if not isinstance(reply, (list, tuple)):
        data = _to_bytes(reply)
        trajectories = decode_or_none(data, list) if _NESTED_LIST.match(data) else None
        return data if trajectories is None else _read_trajectories(trajectories)
    if not reply:
        raise ConfigurationError("The list of replies is empty.", hint="Pass at least one completion or reply.")
    completions = [item for item in reply if isinstance(item, Completion)]
    if len(completions) == len(reply):
        return tuple(replace(completion, index=index) for index, completion in enumerate(completions))
    if completions:
        raise ConfigurationError(
            "The list mixes completions and replies.", hint="Pass a list of completions or a list of replies."
        )
    if any(isinstance(item, (list, tuple)) for item in reply):
        return _read_trajectories(reply)
    if all(isinstance(item, Mapping) and "role" in item and item.keys() <= _MESSAGE_KEYS for item in reply):
        raise ConfigurationError(
            "A list of messages is one trajectory.", hint="Pass a list of trajectories, each a list of messages."
        )
    parts = [_to_bytes(item) for item in reply]
    return parts[0] if len(parts) == 1 else b"[%b]" % b",".join(map(_to_json, range(len(parts)), parts))


def _read_trajectories(trajectories: Sequence[object]) -> tuple[Completion, ...]:
    from swift_client.adapters.codecs.trajectories import read_trajectories

    return read_trajectories(trajectories)


def _to_bytes(reply: object) -> bytes:
    if isinstance(reply, (bytes, bytearray, memoryview)):
        return bytes(reply)
    if isinstance(reply, str):
        return reply.encode("utf-8", "replace")
    try:
        if isinstance(reply, Mapping):
            return msgspec.json.encode(dict(reply), enc_hook=_encode_hook)
        if callable(dump := getattr(reply, "model_dump_json", None)):
            return _to_bytes(dump(warnings=False))  # the openai client builds its objects unchecked
        for holder in (getattr(reply, "http_response", None), reply):
            if isinstance(content := getattr(holder, "content", None), (bytes, str)):
                return _to_bytes(content)
    except Exception as problem:
        raise ConfigurationError(
            f"This {type(reply).__name__} cannot be read as a reply: {problem}",
            hint="Pass the reply's bytes, or its JSON as text or dict.",
        ) from problem
    raise ConfigurationError(
        f"A {type(reply).__name__} is not a reply of a language model.",
        hint="Pass bytes, JSON text, a dict, an object of a provider's client, or a list of Completion.",
    )


def _encode_hook(value: Any) -> Any:
    """Convert a type that msgspec does not know; raise TypeError if there is no way."""
    if isinstance(value, Mapping):
        return dict(value)
    for method in ("model_dump", "item"):  # pydantic models, numpy scalars
        if callable(convert := getattr(value, method, None)):
            return convert()
    raise TypeError(f"a {type(value).__name__} is not JSON")


def _to_json(index: int, part: bytes) -> bytes:
    """Return one of several replies as valid JSON."""
    if decode_or_none(part, msgspec.Raw) is not None:
        return part
    try:
        return repair_json(part)
    except DECODE_ERRORS as problem:
        raise ConfigurationError(
            f"Reply {index} of the list is not a complete JSON reply.", hint="Rank it alone, or leave it out."
        ) from problem

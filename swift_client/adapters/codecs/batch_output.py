"""One line of a batch's output, whoever ran the batch: the reply inside it, or the error that stands in its place."""

from __future__ import annotations

from msgspec import Raw, Struct

from swift_client.adapters.codecs.lenient_json import filled, lenient
from swift_client.adapters.codecs.openai_batch import answered, unanswered
from swift_client.adapters.transport import error_responses


class _Line(Struct):
    custom_id: Raw = Raw()
    """OpenAI's and Anthropic's name of the request."""
    response: Raw = Raw()
    """OpenAI's with a body inside, Google's as it is."""
    error: Raw = Raw()
    key: Raw = Raw()
    """Google's name of the request."""
    result: Raw = Raw()
    """Anthropic's."""


class _Result(Struct):
    type: Raw = Raw()
    message: Raw = Raw()
    error: Raw = Raw()


def body_of(data: bytes) -> bytes | None:
    """Return the reply inside a line of a batch's output; None where ``data`` is no such line.

    Raises:
        ProviderError: the request failed, or never had its turn.
    """
    line = lenient(data, _Line)
    if line is None:
        return None
    if filled(line.custom_id) and filled(line.result):
        return _anthropic(line.result)
    if filled(line.custom_id) and (filled(line.response) or filled(line.error)):
        found = answered(data)
        if found is None:
            return None
        if found.problem:
            raise found.problem
        return found.body
    if filled(line.key) and filled(line.error):
        raise error_responses.from_error_object(lenient(line.error, object))
    return bytes(line.response) if filled(line.response) else None


def _anthropic(raw: Raw) -> bytes | None:
    result = lenient(raw, _Result) or _Result()
    if filled(result.message):
        return bytes(result.message)
    kind = lenient(result.type, str)
    if kind in ("canceled", "expired"):
        raise unanswered({"code": f"batch_{kind}"})
    if filled(result.error):
        error = lenient(result.error, object)
        inner = error.get("error") if isinstance(error, dict) else None
        raise error_responses.from_error_object(inner or error)
    return None

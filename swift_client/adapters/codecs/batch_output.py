"""One line of a batch's output, whoever ran the batch: the reply inside it, or the error that stands in its place."""

from __future__ import annotations

from msgspec import Raw, Struct

from swift_client.adapters.codecs.lenient_json import decode_or_none, has_value
from swift_client.adapters.codecs.openai_batch import failed_request_error, parse_output_line
from swift_client.adapters.transport import error_responses


class _BatchLine(Struct):
    custom_id: Raw = Raw()
    """OpenAI's and Anthropic's name of the request."""
    response: Raw = Raw()
    """OpenAI's with a body inside, Google's as it is."""
    error: Raw = Raw()
    key: Raw = Raw()
    """Google's name of the request."""
    result: Raw = Raw()
    """Anthropic's."""


class _AnthropicResult(Struct):
    type: Raw = Raw()
    message: Raw = Raw()
    error: Raw = Raw()


def extract_body(data: bytes) -> bytes | None:
    """Return the reply inside a line of a batch's output; None where ``data`` is no such line.

    Raises:
        ProviderError: the request failed, or never had its turn.
    """
    line = decode_or_none(data, _BatchLine)
    if line is None:
        return None
    if has_value(line.custom_id) and has_value(line.result):
        return _anthropic_body(line.result)
    if has_value(line.custom_id) and (has_value(line.response) or has_value(line.error)):
        found = parse_output_line(data)
        if found is None:
            return None
        if found.error:
            raise found.error
        return found.body
    if has_value(line.key) and has_value(line.error):
        raise error_responses.error_from_object(decode_or_none(line.error, object))
    return bytes(line.response) if has_value(line.response) else None


def _anthropic_body(raw: Raw) -> bytes | None:
    result = decode_or_none(raw, _AnthropicResult) or _AnthropicResult()
    if has_value(result.message):
        return bytes(result.message)
    kind = decode_or_none(result.type, str)
    if kind in ("canceled", "expired"):
        raise failed_request_error({"code": f"batch_{kind}"})
    if has_value(result.error):
        error = decode_or_none(result.error, object)
        inner = error.get("error") if isinstance(error, dict) else None
        raise error_responses.error_from_object(inner or error)
    return None

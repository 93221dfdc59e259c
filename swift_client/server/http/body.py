"""The body of a request, read within limits of size, time and kind."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from swift_client.server.http.error_reply import HttpError


async def read_body(request: Request, *, max_bytes: int, timeout: float, media_type: str = "application/json") -> bytes:
    """Return the body of a request.

    Args:
        request: the request.
        max_bytes: longest body.
        timeout: seconds in which it must arrive.
        media_type: the only type that is read.

    Raises:
        HttpError: 408, 413 or 415: it is too slow, too long, or of another type; the first two end the connection.
        ClientDisconnect: the client hung up.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # Browsers send any other type across origins without asking, so a page could spend the user's money.
    if kind != media_type:
        raise HttpError(415, f"The Content-Type must be {media_type}.", code="unsupported_media_type")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HttpError(415, "The body must not be compressed.", code="unsupported_media_type")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise _too_long(max_bytes)
    parts: list[bytes] = []
    n_received = 0
    try:
        async with asyncio.timeout(timeout):
            async for part in request.stream():
                n_received += len(part)
                if n_received > max_bytes:
                    raise _too_long(max_bytes)
                parts.append(part)
    except TimeoutError:
        raise HttpError(
            408, f"The body did not arrive within {timeout:g} seconds.", code="request_timeout", closes=True
        ) from None
    return b"".join(parts)


def _too_long(max_bytes: int) -> HttpError:
    return HttpError(413, f"The body is longer than {max_bytes} bytes.", code="body_too_long", closes=True)

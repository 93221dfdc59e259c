"""Faults of connections and statuses for benchmarks/faults.py: a function per kind, from a request to steps."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from types import MappingProxyType

from benchmarks.fault_replies import (
    CHUNKED_HEAD,
    DEEP,
    LAST_CHUNK,
    Draw,
    Ending,
    Paid,
    Pieces,
    Steps,
    chunk,
    good,
    http,
    json_http,
    paid,
)

Fault = Callable[[Draw], Steps]

REFUSAL = {"error": {"message": "refused", "type": "invalid_request_error", "param": None, "code": None}}
RETRY_AFTER = (
    "-1", "0.01", "1e400", "nan", "inf", "", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "Mon, 99 Foo 9999 99:99:99 GMT",
    "9" * 400, "0x1", "1,2", " 0 ", "86400", "Fri, 31 Dec 9999 23:59:59 GMT", "-0", "1_0", "0.05; x",
)  # fmt: skip
ODD_ERRORS: tuple[bytes, ...] = (
    b"", b"oops", b"{", b"null", b"[]", b"\xff\xfe", b'"text"', b'{"error": null}', b'{"error": [1]}',
    b'{"error": true}',
    b'{"error": {"message": {"a": 1}}}', b'{"error": {"code": 1e400}}', b'{"error": {"message": ["x"]}}',
    b'{"message": {"detail": [{"loc": [1, {}], "msg": null}]}}', b'{"error": {"param": {"x": 1}, "message": "no"}}',
    b'{"error": {"message": "\\ud800 \\u001b[31m"}}', b'{"detail": ' + DEEP + b"}",
    b'{"error": {"message": ' + DEEP + b"}}",
    b'{"error": {"message": "n must be at most 0", "param": "n"}}', b'{"error": {"message": "n must be <= 1e400"}}',
    b'{"error": {"message": "top_logprobs must be between 0 and 99999999999999999999", "param": "top_logprobs"}}',
)  # fmt: skip


def _connection(draw: Draw, ending: Ending) -> Steps:
    """Break off at a random byte of the body."""
    pieces = Pieces.of(draw)
    head = http(b"", length=len(pieces.data))
    return [head, *pieces.cut(draw.rng.randrange(len(pieces.data))), 0.02, ending]


def close_before(draw: Draw) -> Steps:
    """Close without a byte."""
    return [Ending.CLOSE]


def reset_before(draw: Draw) -> Steps:
    """Reset without a byte."""
    return [Ending.RESET]


def half_close_before(draw: Draw) -> Steps:
    """Send the end of the bytes without a byte."""
    return [Ending.HALF_CLOSE]


def reset_in_headers(draw: Draw) -> Steps:
    """Reset inside the headers."""
    head = http(b"{}")
    return [head[: draw.rng.randrange(1, len(head) - 4)], Ending.RESET]


def close_in_headers(draw: Draw) -> Steps:
    """Close inside the headers."""
    head = http(b"{}")
    return [head[: draw.rng.randrange(1, len(head) - 4)], Ending.CLOSE]


def reset_after_headers(draw: Draw) -> Steps:
    """Reset where the body should begin."""
    return [http(b"", length=500), 0.01, Ending.RESET]


def close_in_body(draw: Draw) -> Steps:
    """Close inside the body."""
    return _connection(draw, Ending.CLOSE)


def reset_in_body(draw: Draw) -> Steps:
    """Reset inside the body."""
    return _connection(draw, Ending.RESET)


def half_close_in_body(draw: Draw) -> Steps:
    """End the bytes inside the body and keep the connection."""
    return _connection(draw, Ending.HALF_CLOSE)


def hang_in_body(draw: Draw) -> Steps:
    """Stop inside the body and keep the connection."""
    return _connection(draw, Ending.HANG)


def idle(draw: Draw) -> Steps:
    """Never answer."""
    return [Ending.HANG]


def slow_loris_headers(draw: Draw) -> Steps:
    """Send the headers byte by byte."""
    return [step for byte in http(b"{}") for step in (bytes([byte]), 0.05)]


def slow_loris_body(draw: Draw) -> Steps:
    """Send the body slowly: sometimes in time, sometimes not."""
    pieces = Pieces.of(draw)
    return [http(b"", length=len(pieces.data)), *pieces.steps(12, draw.rng.choice([0.005, 0.02, 0.15]))]


def late_answer(draw: Draw) -> Steps:
    """Answer correctly after a while."""
    return [draw.rng.uniform(0.05, 1.2), *good(draw)]


def stale_connection(draw: Draw) -> Steps:
    """Answer correctly, promise to keep the connection, and reset it at once."""
    return [*good(draw), 0.03, Ending.RESET]


def tls_alert(draw: Draw) -> Steps:
    """Answer as a TLS server does that gets plain HTTP."""
    return [b"\x15\x03\x01\x00\x02\x02\x46", Ending.CLOSE]


def garbage(draw: Draw) -> Steps:
    """Send random bytes."""
    return [draw.rng.randbytes(draw.rng.randrange(1, 400)), Ending.CLOSE]


def long_header(draw: Draw) -> Steps:
    """Send a header of 200 kB."""
    return [b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000 + b"\r\n\r\n{}", Ending.CLOSE]


def many_headers(draw: Draw) -> Steps:
    """Send thousands of headers."""
    return [b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 20_000 + b"\r\n{}", Ending.CLOSE]


def http_09(draw: Draw) -> Steps:
    """Answer without a status line."""
    return [b"The answer is 4", Ending.CLOSE]


def interim_flood(draw: Draw) -> Steps:
    """Send one interim response after another."""
    return [step for _ in range(60) for step in (b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n", 0.05)]


def second_response(draw: Draw) -> Steps:
    """Send a second response that nobody asked for."""
    return [*good(draw), http(b'{"choices": []}')]


def bad_chunk_size(draw: Draw) -> Steps:
    """Send all bytes, and then a chunk whose size is not a number."""
    pieces = Pieces.of(draw)
    bad = draw.rng.choice([b"zz\r\n", b"-1\r\n", b"ffffffffffffffff\r\n", b"\r\n", b""])
    references = tuple(reference for _, reference in pieces.ends)
    return [CHUNKED_HEAD, chunk(pieces.data), Paid(references), 0.02, bad, Ending.CLOSE]


def long_length(draw: Draw) -> Steps:
    """Promise more bytes than come."""
    pieces = Pieces.of(draw)
    return [http(b"", length=len(pieces.data) + 99), *pieces.cut(len(pieces.data)), 0.02, Ending.CLOSE]


def short_length(draw: Draw) -> Steps:
    """Promise fewer bytes than come."""
    pieces = Pieces.of(draw)
    stop = draw.rng.randrange(len(pieces.data))
    kept = pieces.cut(stop)[1]
    return [http(b"", length=stop), pieces.data, kept, Ending.CLOSE]


def bad_length(draw: Draw) -> Steps:
    """Send a length that is not one."""
    return [http(b"{}", length=draw.rng.choice(["-1", "abc", "1e3", "", "9" * 30])), Ending.CLOSE]


def without_length(draw: Draw) -> Steps:
    """End a correct body with the connection."""
    body = draw.body()
    return [json_http(body, length=None), paid(body["choices"]), Ending.CLOSE]


CONNECTION: tuple[Fault, ...] = (
    close_before, reset_before, half_close_before, reset_in_headers, close_in_headers, reset_after_headers,
    close_in_body, reset_in_body, half_close_in_body, hang_in_body, idle, slow_loris_headers, slow_loris_body,
    late_answer, stale_connection, tls_alert, garbage, long_header, many_headers, http_09, interim_flood,
    second_response, bad_chunk_size, long_length, short_length, bad_length, without_length,
)  # fmt: skip


# --- statuses ------------------------------------------------------------------------------------------------------


def _refuse(*statuses: int) -> Fault:
    def refuse(draw: Draw) -> Steps:
        status = draw.rng.choice(statuses)
        if draw.rng.random() < 0.3:
            return [http(draw.rng.choice(ODD_ERRORS), status=status)]
        return [json_http(REFUSAL, status=status, headers={"x-request-id": f"req-{draw.call}"})]

    refuse.__name__ = f"status_{statuses[0]}" if len(statuses) == 1 else f"status_{statuses[0] // 100}xx"
    return refuse


def status_429(draw: Draw) -> Steps:
    """Refuse for now, without a wait."""
    return [json_http({"error": {"message": "slow down", "type": "rate_limit"}}, status=429)]


def retry_after(draw: Draw) -> Steps:
    """Refuse for now, with a wait in any form."""
    return [json_http(REFUSAL, status=429, headers={"retry-after": draw.rng.choice(RETRY_AFTER)})]


def retry_after_ms(draw: Draw) -> Steps:
    """Refuse for now, with a wait in milliseconds in any form."""
    wait = draw.rng.choice(["-5", "nan", "1", "1e999", "20", "abc", "9" * 300])
    return [json_http(REFUSAL, status=draw.rng.choice([429, 503]), headers={"retry-after-ms": wait})]


def retry_in_message(draw: Draw) -> Steps:
    """Refuse for now, with the wait in the sentence."""
    wait = draw.rng.choice(["1e999s", "0.01s", "-3ms", f"{'9' * 26}h", "20ms", "0m0s", f"{'1m' * 5000}"])
    return [json_http({"error": {"message": f"Please try again in {wait}"}}, status=429)]


def quota_headers(draw: Draw) -> Steps:
    """Answer correctly, with lies about the quota."""
    body, pick = draw.body(), draw.rng.choice
    headers = {
        "x-ratelimit-remaining-requests": pick(["-1", "nan", "1e999", "abc", "9" * 50, "1"]),
        "x-ratelimit-reset-requests": pick(["-1s", "nan", "abc", "1e999ms", "9" * 300 + "h", "10ms"]),
        "x-ratelimit-limit-requests": pick(["0", "-5", "inf", "x"]),
        "x-ratelimit-remaining-tokens": pick(["-7", "5", ""]),
        "x-ratelimit-limit-tokens": "nan",
    }
    return [json_http(body, headers=headers), paid(body["choices"])]


def web_page_502(draw: Draw) -> Steps:
    """Answer with a proxy's page."""
    return [http(b"<!DOCTYPE html><title>Bad Gateway</title>" + b"x" * 3000, status=502, kind="text/html")]


def odd_success(draw: Draw) -> Steps:
    """Answer correctly with another status of success."""
    body = draw.body()
    return [json_http(body, status=draw.rng.choice([201, 202, 203, 299])), paid(body["choices"])]


def no_content(draw: Draw) -> Steps:
    """Answer with a status that has no body."""
    return [http(b"", status=draw.rng.choice([204, 205, 206, 304]), length=None), Ending.CLOSE]


def impossible_status(draw: Draw) -> Steps:
    """Answer with a status that does not exist."""
    status = draw.rng.choice([600, 700, 999, "000", "abc", "20", "2000", "-1"])
    return [http(b"{}", status=status), Ending.CLOSE]


def switch_protocols(draw: Draw) -> Steps:
    """Answer with 101."""
    return [b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", 0.05, Ending.CLOSE]


def redirect(draw: Draw) -> Steps:
    """Send the client elsewhere."""
    places = ("//evil.example/", "file:///etc/passwd", "http://[::1", "\x7f", "javascript:1", "/v1/x", "")
    place = f"http://127.0.0.1:9/?key={draw.key}" if draw.rng.random() < 0.3 else draw.rng.choice(places)
    return [http(b"", status=draw.rng.choice([301, 302, 303, 307, 308]), headers={"location": place})]


def key_in_error(draw: Draw) -> Steps:
    """Repeat the client's key in a refusal."""
    key = draw.rng.choice([draw.key, draw.key[:20], "\u200b".join(draw.key), f"{draw.key[:9]} {draw.key[9:]}"])
    error = {"error": {"message": f"Incorrect API key provided: {key}", "param": key, "code": key}}
    return [json_http(error, status=draw.rng.choice([200, 400, 401, 429, 500]), headers={"x-request-id": draw.key})]


def control_characters(draw: Draw) -> Steps:
    """Refuse with characters that move a terminal's cursor."""
    message = "\x1b[2J\x1b]0;title\x07 \u202e \x9b2J \x00"
    return [json_http({"error": {"message": message, "code": message}}, status=draw.rng.choice([200, 400, 500]))]


def refused_field(draw: Draw) -> Steps:
    """Refuse a field of the request."""
    field, rule = draw.rng.choice(
        [("top_logprobs", "must be at most 1"), ("logprobs", "is not supported"), ("n", "must be at most 1"),
         ("stream_options", "is unknown"), ("stream", "is not supported with logprobs"), ("max_tokens", "is unknown")]
    )  # fmt: skip
    error = {"error": {"message": f"{field} {rule}", "type": "invalid_request_error", "param": field}}
    return [json_http(error, status=draw.rng.choice([400, 422]))]


def long_error(draw: Draw) -> Steps:
    """Refuse with a body that is longer than the limit."""
    text = json.dumps({"error": {"message": "x" * (draw.limit + 1000)}}).encode()
    return [http(text, status=draw.rng.choice([400, 500]))]


def compressed_error(draw: Draw) -> Steps:
    """Refuse with a body that is small only as long as it is compressed."""
    body = gzip.compress(b" " * 4 * draw.limit, 1)
    return [http(body, status=draw.rng.choice([400, 500]), headers={"content-encoding": "gzip"})]


def endless_error(draw: Draw) -> Steps:
    """Refuse with a body that does not end."""
    head = CHUNKED_HEAD.replace(b"200 OK", b"500 Oh")
    return [head, *(step for _ in range(200) for step in (chunk(b"overloaded " * 500), 0.01)), LAST_CHUNK]


STATUS: tuple[Fault, ...] = (
    *(_refuse(status) for status in (401, 403, 404, 408, 409, 413, 422, 500, 503, 529)),
    _refuse(402, 405, 410, 418, 423, 424, 451, 499), _refuse(501, 504, 520, 524, 599),
    status_429, retry_after, retry_after_ms, retry_in_message, quota_headers, web_page_502, odd_success, no_content,
    impossible_status, switch_protocols, redirect, key_in_error, control_characters, refused_field, long_error,
    compressed_error, endless_error,
)  # fmt: skip

CONNECTION_FAULTS = MappingProxyType({fault.__name__: fault for fault in CONNECTION})
STATUS_FAULTS = MappingProxyType({fault.__name__: fault for fault in STATUS})

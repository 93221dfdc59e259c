"""Faults inside replies for benchmarks/faults.py: damaged JSON, lies about logprobs and usage, and broken streams."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from benchmarks.fault_kinds import Fault
from benchmarks.fault_replies import (
    DEEP,
    EVENTS,
    LAST_CHUNK,
    STREAM_HEAD,
    Draw,
    Ending,
    Paid,
    Pieces,
    Steps,
    Stream,
    chunk,
    event,
    http,
    json_http,
    paid,
    plain,
)

BODY: dict[str, Fault] = {}
STREAM: dict[str, Fault] = {}


def _junk(name: str, *bodies: bytes, kind: str = "application/json") -> None:
    """Add a kind of reply in which there is no completion at all."""
    BODY[name] = lambda draw: [http(draw.rng.choice(bodies), kind=kind)]


def _dump(value: object) -> bytes:
    return json.dumps(value).encode()


_junk("empty", b"", b" ", b"\n\n", b"\xef\xbb\xbf", b"\x00")
_junk("web_page", b"<!DOCTYPE html><title>Login</title>", b"  <html>" + b"x" * 900, kind="text/html")
_junk("deep_body", DEEP, b'{"choices": ' + DEEP + b"}", b'{"a":' * 20_000 + b"1" + b"}" * 20_000, DEEP[:20_000])
_junk(
    "other_json", b"null", b"true", b"[]", b"{}", b"7", b'"text"', b"NaN", b'[{"choices": []}]', b"1e400", b"9" * 9000
)
_junk("null_choices", *(b'{"choices": %s}' % value for value in (b"null", b"[]", b"{}", b'"x"', b"[null]", b"[1]",
      b"[[]]", b"[{}]", b'[{"message": null}]', b'[{"message": {"content": 5}}]', b'{"0": {}}')))  # fmt: skip
_junk("error_in_200", *(_dump(value) for value in (
    {"error": {"message": "x", "code": 429}}, {"error": "overloaded"}, {"error": {"code": "rate_limit_exceeded"}},
    {"error": {"code": 10**30}}, {"error": True}, {"error": {"metadata": {"raw": 5}}}, {"message": "x"},
    {"detail": "no"}, {"error": {"message": "\ud800"}}, {"error": [], "choices": None},
)))  # fmt: skip


def _change(name: str, change: Callable[[dict[str, Any], Draw], bytes | None], *, spared: int = 0) -> None:
    """Add a kind that changes a reply of at least one choice; the choices from ``spared`` on are still whole."""

    def fault(draw: Draw) -> Steps:
        body = draw.body()
        choices = list(body["choices"])
        arrived = paid(choices[spared:])
        data = change(body, draw)
        return [http(_dump(body) if data is None else data), arrived]

    BODY[name] = fault


def _first(body: dict[str, Any]) -> dict[str, Any]:
    choice: dict[str, Any] = body["choices"][0]
    return choice


def _set(path: tuple[str, ...], *values: object) -> Callable[[dict[str, Any], Draw], None]:
    """Return a change of one field of the first choice."""

    def change(body: dict[str, Any], draw: Draw) -> None:
        target = _first(body)
        for name in path[:-1]:
            target = target[name]
        target[path[-1]] = draw.rng.choice(values)

    return change


_ODD: tuple[Any, ...] = (None, [], {}, "x", 5, True, 1.5, [None], [1], [{}], -1, 10**30, "", [[]], {"x": None})

_change("indented", lambda body, draw: json.dumps(body, indent=2).encode())
_change("byte_order_mark", lambda body, draw: b"\xef\xbb\xbf" + _dump(body))
_change("bytes_after", lambda body, draw: _dump(body) + draw.rng.choice([b"x", b"}", _dump(body)[:9], b"\x00", b"{}"]))
_change("raw_controls", lambda body, draw: _dump(body).replace(b'"assistant"', b'"assi\n\t\x01stant"'))
_change("trailing_commas", lambda body, draw: _dump(body).replace(b"}]", b"},]"))
_change("bad_escapes", lambda body, draw: _dump(body).replace(b'"assistant"', b'"\\d\\assistant"'))
_change("single_nan", lambda body, draw: _dump(body).replace(b'"created": 1', b'"created": NaN'))
_change("deep_field", lambda body, draw: _dump(body)[:-1] + b', "x": ' + DEEP + b"}")
_change("repeated_fields", lambda body, draw: _dump(body)[:-1] + b', "usage": {}, "model": 5, "usage": null}')
_change(
    "deep_choice", lambda body, draw: _dump(body).replace(b'"message"', b'"x": ' + DEEP + b', "message"', 1), spared=1
)
_change("twice_a_message", lambda body, draw: _dump(body).replace(b'"message"', b'"message": {}, "message"', 1))
_change("other_content_type", lambda body, draw: None)
_change("odd_index", lambda body, draw: [
    choice.update(index=draw.rng.choice([-1, 0, 10**6, 2**63, 2**70, None, "1", 1.5, True]))
    for choice in body["choices"]
] and None)  # fmt: skip
_change("choices_not_objects", lambda body, draw: body["choices"].extend([None, 5, "x", []]))
_change("error_beside_choices", lambda body, draw: body.update(error={"message": "upstream broke", "code": 502}))
_change("error_in_choice", _set(("error",), {"code": 502, "message": "broke"}, "x", True, {"code": None}), spared=1)
_change("odd_finish", _set(("finish_reason",), "weird", "", "STOP", "error", "length", "content_filter"))
_change("finish_of_other_type", _set(("finish_reason",), 5, [], {}, True, 1.5), spared=1)
_change("odd_message", _set(("message",), *_ODD), spared=1)
_change("odd_content", _set(("message", "content"), *_ODD, "\x00", "\u202e\x1b[31m"), spared=1)
_change("odd_refusal", _set(("message", "refusal"), None, "", [], {}, 5))
_change("odd_tool_calls", _set(("message", "tool_calls"), *_ODD, [{"function": {"arguments": 5}}], [{"function": []}]))
_change("odd_reasoning", _set(("message", "reasoning_content"), *_ODD))
_change("odd_logprobs", _set(("logprobs",), *_ODD, {"content": 5}, {"content": {}}, {"tokens": "x"}, {"content": [5]}))
_change("odd_extra_fields", _set(("x",), *_ODD))
_change("odd_model", lambda body, draw: body.update(model=draw.rng.choice(_ODD), id=draw.rng.choice(_ODD)))
_change("surrogate_half", lambda body, draw: _dump(body).replace(b"The answer", b"The \\ud800 answer"))
_change("long_text", lambda body, draw: _dump(body).replace(b"The answer", b"a " * 50_000 + b"The answer"))
_change("more_choices", lambda body, draw: body["choices"].append({**_first(body), "index": 99}))
_change("usage_lies", lambda body, draw: body.update(usage=draw.rng.choice([
    {"prompt_tokens": -5, "completion_tokens": -7}, {"prompt_tokens": 10**400}, {"prompt_tokens": "7"}, [], None, "x",
    {"prompt_tokens": 2**80, "completion_tokens": 2**80}, {"completion_tokens": math.nan}, {"prompt_tokens": True},
    {"prompt_tokens": 1.5, "completion_tokens": 3.0}, {"prompt_tokens": [], "prompt_tokens_details": 5},
    {"prompt_tokens_details": {"cached_tokens": "many"}}, {"completion_tokens": math.inf},
])))  # fmt: skip
_change("numbers_as_text", lambda body, draw: _dump(json.loads(_dump(body), parse_float=str, parse_int=str)))


def _each_token(name: str, change: Callable[[dict[str, Any], Draw], object]) -> None:
    """Add a kind that changes the logprobs of tokens; the texts are whole, and no completion may be lost."""

    def change_all(body: dict[str, Any], draw: Draw) -> None:
        for choice in body["choices"]:
            for token in (choice["logprobs"] or {}).get("content") or ():
                change(token, draw)

    _change(name, change_all)


_NUMBERS = (math.nan, math.inf, -math.inf, 1e308, "-0.5", None, -9999.0, -3.4e38, 0.5, 10**400, [], {}, True, -0.0)
_each_token("logprob_not_a_number", lambda token, draw: token.update(logprob=draw.rng.choice(_NUMBERS)))
_each_token("logprob_positive", lambda token, draw: token.update(logprob=draw.rng.uniform(0, 9)))
_each_token("logprob_constant", lambda token, draw: token.update(logprob=0.0, top_logprobs=[]))
_each_token("logprob_shuffled", lambda token, draw: draw.rng.shuffle(token["top_logprobs"]))
_each_token("logprob_sums", lambda token, draw: [one.update(logprob=-0.1) for one in token["top_logprobs"]])
_each_token(
    "logprob_lists", lambda token, draw: token.update(top_logprobs=draw.rng.choice((*_ODD, [dict(token)] * 99)))
)
_each_token("logprob_texts", lambda token, draw: token.update(token=draw.rng.choice((None, "", "x", 5, "\ud800"))))
_each_token(
    "logprob_bytes", lambda token, draw: token.update(bytes=draw.rng.choice(([300, -1], "abc", None, [255], 5)))
)
_each_token("logprob_deep", lambda token, draw: token.update(top_logprobs=[{**token, "top_logprobs": [dict(token)]}]))


def truncated(draw: Draw) -> Steps:
    """Cut the JSON with a correct length."""
    pieces = Pieces.of(draw)
    data, arrived = pieces.cut(draw.rng.randrange(len(pieces.data)))
    return [http(data if isinstance(data, bytes) else b""), arrived]


def flipped_bytes(draw: Draw) -> Steps:
    """Change bytes inside the first choice."""
    pieces = Pieces.of(draw)
    data, end = bytearray(pieces.data), pieces.ends[0][0]
    start = data.index(b'"message"')
    for _ in range(draw.rng.randrange(1, 5)):
        data[draw.rng.randrange(start, end - 30)] = draw.rng.choice([0xFF, 0xC0, 0x80, 0xED, 0, 0x22, 0x5C, 0x7B])
    return [http(bytes(data))]


def wrong_encoding(draw: Draw) -> Steps:
    """Send the JSON in another encoding of characters."""
    return [http(json.dumps(draw.body()).encode(draw.rng.choice(["utf-16", "utf-32", "utf-16-le"])))]


def compressed(draw: Draw) -> Steps:
    """Compress correctly."""
    body = draw.body()
    encoding, compress = draw.rng.choice([("gzip", gzip.compress), ("deflate", zlib.compress)])
    return [http(compress(_dump(body)), headers={"content-encoding": encoding}), paid(body["choices"])]


def cut_compressed(draw: Draw) -> Steps:
    """Cut a compressed body."""
    data = gzip.compress(_dump(draw.body()))
    return [http(data[: draw.rng.randrange(1, len(data))], headers={"content-encoding": "gzip"})]


def falsely_compressed(draw: Draw) -> Steps:
    """Name a compression that is not there."""
    encoding = draw.rng.choice(["gzip", "br", "deflate", "zstd", "foo", "gzip, gzip", "", "x" * 5000])
    return [http(_dump(draw.body()), headers={"content-encoding": encoding})]


def compressed_bomb(draw: Draw) -> Steps:
    """Send a few kilobytes that become many times the limit."""
    blank = draw.rng.choice([b" ", b"[", b"1,", b'{"a":'])
    body = b'{"choices": [' + blank * (4 * draw.limit // len(blank))
    return [http(gzip.compress(body, 1), headers={"content-encoding": "gzip"})]


def too_long(draw: Draw) -> Steps:
    """Send more bytes than the limit after a whole choice."""
    choice = draw.choice(0)
    return [http(b'{"choices": [' + _dump(choice) + b"], " + b" " * draw.limit + b'"x": 1}'), paid([choice])]


BODY |= {
    fault.__name__: fault
    for fault in (truncated, flipped_bytes, wrong_encoding, compressed, cut_compressed, falsely_compressed,
                  compressed_bomb, too_long)
}  # fmt: skip


# --- streams -------------------------------------------------------------------------------------------------------


def _stream(name: str, change: Callable[[Stream, Draw], Stream], *ending: bytes) -> None:
    """Add a kind that changes a stream without losing a choice."""
    STREAM[name] = lambda draw: [*change(Stream.of(draw), draw).steps(), *(ending or (LAST_CHUNK,))]


def _replace(old: bytes, new: bytes) -> Callable[[Stream, Draw], Stream]:
    return lambda stream, draw: stream.map(lambda data: data.replace(old, new))


_stream("s_comments", lambda stream, draw: stream.insert(draw, *[b": ping\n\n"] * 9, b":\n\n", b"\n\n\n"))
_stream("s_carriage_returns", _replace(b"\n", b"\r\n"))
_stream("s_without_space", _replace(b"data: ", b"data:"))
_stream("s_without_done", lambda stream, draw: Stream(stream.events[:-1]))
_stream("s_without_usage", lambda stream, draw: Stream(stream.events[:-2]))
_stream("s_without_last_chunk", lambda stream, draw: stream, b"")
_stream("s_event_names", lambda stream, draw: stream.map(lambda data: b"event: message\nid: 7\nretry: 1\n" + data))
_stream("s_usage_everywhere", lambda stream, draw: stream.insert(draw, *[event({"choices": [], "usage": {
    "prompt_tokens": draw.rng.choice([-1, None, "x", 10**30]), "completion_tokens": draw.rng.choice([[], 1e300, "5"])}
})] * 3))  # fmt: skip
_stream("s_null_events", lambda stream, draw: stream.insert(draw, *map(event, (
    {"choices": None}, {"choices": []}, {}, {"choices": [{"index": 0, "delta": None}]}, b"null", b"[]", b"5",
    {"choices": [{"index": 0, "delta": {"content": None}}]}, {"choices": [{"index": 0, "delta": {}}]},
))))  # fmt: skip
_stream("s_unreadable_events", lambda stream, draw: stream.insert(
    draw, b"data: {\n\n", b"data: \xff\xfe\n\n", event(DEEP), b"data: {]}\n\n", b"nonsense\n\n", b"data\n\n"
))  # fmt: skip
_stream(
    "s_after_done", lambda stream, draw: Stream([*stream.events, (event({"choices": 5}), ()), (b"data: x\n\n", ())])
)
_stream("s_bytes_split", lambda stream, draw: Stream(
    [(bytes([byte]), ()) for data, _ in stream.events[:-2] for byte in data] + stream.events[-2:]
))  # fmt: skip
_stream("s_finish_twice", lambda stream, draw: Stream([one for one in stream.events for _ in range(1 + bool(one[1]))]))


def s_in_turn(draw: Draw) -> Steps:
    """Stream one choice after another."""
    return [*Stream.of(draw, interleaved=False).steps(), LAST_CHUNK]


def s_one_chunk(draw: Draw) -> Steps:
    """Send all events at once."""
    events = Stream.of(draw).events
    references = tuple(reference for _, group in events for reference in group)
    return [STREAM_HEAD, chunk(b"".join(data for data, _ in events)), Paid(references), LAST_CHUNK]


def _cut(draw: Draw, *ending: bytes | float | Ending) -> Steps:
    stream = Stream.of(draw, interleaved=draw.rng.random() < 0.5)
    return [*stream.steps(stop=draw.rng.randrange(len(stream.events))), *ending]


def s_closed(draw: Draw) -> Steps:
    """Close in the middle."""
    return _cut(draw, 0.02, Ending.CLOSE)


def s_reset(draw: Draw) -> Steps:
    """Reset in the middle."""
    return _cut(draw, 0.03, Ending.RESET)


def s_ended(draw: Draw) -> Steps:
    """End in the middle, as if all were well."""
    return _cut(draw, LAST_CHUNK)


def s_silent(draw: Draw) -> Steps:
    """Stop in the middle."""
    return _cut(draw, Ending.HANG)


def s_pings(draw: Draw) -> Steps:
    """Send only comments from the middle on."""
    return [*_cut(draw), *(step for _ in range(60) for step in (chunk(b": ping\n\n"), 0.05))]


def s_error(draw: Draw) -> Steps:
    """Report an error in the middle."""
    error = draw.rng.choice(
        [{"error": {"message": "overloaded", "code": 529}}, {"error": "x"}, {"error": {"code": None}}, {"detail": "no"},
         {"choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 502}}]}]
    )  # fmt: skip
    name = draw.rng.choice([b"", b"event: error\n"])
    return _cut(draw, chunk(name + event(error)), LAST_CHUNK)


def s_slow(draw: Draw) -> Steps:
    """Stream slowly: sometimes in time, sometimes not."""
    return [*Stream.of(draw).steps(pause=draw.rng.choice([0.002, 0.01, 0.06])), LAST_CHUNK]


def s_wrong_index(draw: Draw) -> Steps:
    """Count all choices wrongly, and alike."""
    wrong = draw.rng.choice([b"null", b"-1", b'"0"', b"99999999999", b"1e400", b"true", b"[]"])
    stream = Stream.of(draw, interleaved=False).map(lambda data: data.replace(b'"index": 0', b'"index": ' + wrong))
    return [*stream.steps(), LAST_CHUNK]


def s_long_line(draw: Draw) -> Steps:
    """Stream well, and then a line without an end."""
    stream = Stream.of(draw).steps(stop=-2)
    part = chunk(b"a" * 100_000)
    return [*stream, chunk(b"data: "), *([part] * (draw.limit // 100_000 + 2)), LAST_CHUNK]


def s_flood(draw: Draw) -> Steps:
    """Stream well, and then nonsense beyond the limit."""
    stream = Stream.of(draw).steps(stop=-2)
    part = chunk(event({"choices": []}) * 2000)
    return [*stream, *([part] * (draw.limit // len(part) + 2)), LAST_CHUNK]


def s_plain(draw: Draw) -> Steps:
    """Answer without a stream, with the type of one."""
    body = draw.body()
    return [json_http(body, kind=EVENTS), paid(body["choices"])]


def s_repeated_reply(draw: Draw) -> Steps:
    """Send the same plain reply twice as events."""
    first = plain(draw)[0]
    data = first if isinstance(first, bytes) else b""
    return [STREAM_HEAD, chunk(event(data.partition(b"\r\n\r\n")[2]) * 2), LAST_CHUNK]


STREAM |= {
    fault.__name__: fault
    for fault in (s_in_turn, s_one_chunk, s_closed, s_reset, s_ended, s_silent, s_pings, s_error, s_slow, s_wrong_index,
                  s_long_line, s_flood, s_plain, s_repeated_reply)
}  # fmt: skip

BODY_FAULTS = MappingProxyType(BODY)
STREAM_FAULTS = MappingProxyType(STREAM)

"""Damaged replies: mutations of good ones, the same in every run."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import numpy as np

from swift_client.adapters import Codec
from swift_client.errors import ProviderError
from tests.codecs.logical import CASES, random_case
from tests.codecs.writers import Writer

_PARTS = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"NaN", b"1e999", b"-1e999", b"\xff", b"\x00", b"[]",
    b"{}", b"-9999", b"true", b"3.4e38", b'\\ud800', b"data: ", b"\n\n", b'"index":', b"-Infinity", b'"x"', b"9" * 30,
)  # fmt: skip


def good_replies(writer: Writer) -> list[bytes]:
    """Encode good replies, as bodies, indented bodies and streams, with all features of the format."""
    cases = [case for case in CASES if case.needs <= writer.features] + [
        random_case(seed, n=2, length=4) for seed in range(4)
    ]
    if "several" not in writer.features:
        cases = [case for case_of_many in cases for case in case_of_many.split()]
    bodies = [writer.write_body(case) for case in cases]
    indented = [json.dumps(json.loads(data), indent=2).encode() for data in bodies]  # as OpenAI and Google send them
    return bodies + indented + [writer.write_stream(case, 1) for case in cases]


def mutants(writer: Writer, count: int, seed: int = 7) -> Iterator[bytes]:
    """Yield ``count`` damaged replies: pieces replaced, repeated, moved, cut off."""
    draw = random.Random(seed)
    replies = good_replies(writer)
    for _ in range(count):
        data = bytearray(draw.choice(replies))
        for _ in range(draw.randrange(1, 4)):
            if not data:
                break
            position, length = draw.randrange(len(data)), draw.choice([0, 1, 1, 2, 5, 40])
            data[position : position + length] = draw.choice(
                [*_PARTS, bytes(data[position // 2 : position // 2 + length])]
            )
        if draw.random() < 0.1:
            del data[draw.randrange(len(data) + 1) :]
        yield bytes(data)


def survives(codec: Codec, data: bytes, number: int) -> bool:
    """Decode and check one reply; return whether it has completions. Only our own errors are caught."""
    k = (None, 2)[number % 2]
    try:
        if number % 3:
            reply = codec.parse(data, top_logprobs=k, token_ids=bool(number % 5))
        else:
            assembler = codec.StreamAssembler(top_logprobs=k, token_ids=bool(number % 5))
            assembler.feed(data[: number % (len(data) + 1)])
            assembler.feed(data[number % (len(data) + 1) :])
            reply = assembler.close()
    except ProviderError:
        return False
    for completion in reply.completions:
        assert np.isfinite(completion.logprobs).all()
        assert (completion.logprobs <= 0).all()
        assert not np.isnan(completion.top_logprobs).any()
        assert (completion.top_logprobs <= 0).all()
        assert (completion.top_logprobs[:, 1:] <= completion.top_logprobs[:, :-1]).all()
        assert k is None or completion.top_logprobs.shape[1] == (k if len(completion.tokens) else 0)
    assert reply.usage.prompt_tokens >= 0
    assert reply.usage.completion_tokens >= 0
    return bool(reply.completions)

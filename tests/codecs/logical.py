"""Completions in no wire format; the writers encode the same ones in every format."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class LogicalToken:
    """One token and its list of alternatives."""

    raw: bytes
    logprob: float | None
    top: tuple[tuple[bytes, float], ...] = ()

    @property
    def text(self) -> str:
        """The text that servers print: half a character is U+FFFD."""
        return self.raw.decode("utf-8", "replace")


@dataclass(frozen=True)
class LogicalCompletion:
    """One completion."""

    text: str
    tokens: tuple[LogicalToken, ...] | None = None
    """None: no logprobs."""
    finish_reason: str = "stop"
    """One of ours, not a provider's."""
    calls: tuple[dict[str, Any], ...] = ()
    """{"name", "arguments": dict}; the text is then empty."""
    thinking_text: str = ""
    thinking_tokens: tuple[LogicalToken, ...] = ()
    """Tokens of the thinking, if they are listed before the answer's."""


@dataclass(frozen=True)
class Case:
    """The completions of one reply."""

    name: str
    completions: tuple[LogicalCompletion, ...]
    prompt_tokens: int = 7
    k: int | None = None
    needs: frozenset[str] = field(default_factory=frozenset)
    """Features that a wire format must have: "bytes", "refusal", "repeats"."""

    def split(self) -> list[Case]:
        """Return one case per completion, for formats that have one completion per reply."""
        return [replace(self, completions=(completion,)) for completion in self.completions]


def make_token(text: str | bytes, logprob: float | None, *top: tuple[str | bytes, float]) -> LogicalToken:
    """Build a token from texts or bytes."""

    def encode(token: str | bytes) -> bytes:
        return token if isinstance(token, bytes) else token.encode()

    return LogicalToken(encode(text), logprob, tuple((encode(token), number) for token, number in top))


def join_tokens(*tokens: LogicalToken, finish_reason: str = "stop") -> LogicalCompletion:
    """Join tokens to a completion."""
    return LogicalCompletion(b"".join(token.raw for token in tokens).decode(), tokens, finish_reason)


RAGGED = join_tokens(
    make_token("The", -0.25, ("The", -0.25), ("A", -2.0), ("It", -3.5)),
    make_token(" answer", 0.0, (" answer", 0.0)),
    make_token(" is", -1.5, (" is", -1.5), (" was", -1.75)),
    make_token(" 12", -0.125, (" 12", -0.125), (" 13", -4.0), (" 11", -4.0), (" 1", -9.5)),
)
CASES = (
    Case("ragged k", (RAGGED,)),
    Case("ragged k, cut to two columns", (RAGGED,), k=2),
    Case("ragged k, widened to six columns", (RAGGED,), k=6),
    Case(
        "a censored token",
        (join_tokens(make_token("x", -9999.0, ("y", -0.5), ("z", -1.5)), make_token("!", -0.5, ("!", -0.5))),),
    ),
    Case(
        "a censored token with one certain alternative",
        (join_tokens(make_token("x", -9999.0, ("y", 0.0)), make_token("!", -0.5)),),
    ),
    Case("a censored alternative", (join_tokens(make_token("x", -0.5, ("x", -0.5), ("y", -100.0))),)),
    Case(
        "a chosen token outside its list",
        (join_tokens(make_token("x", -7.25, ("y", -0.25), ("z", -2.5)), make_token("!", -0.5)),),
    ),
    Case("an unsorted list", (join_tokens(make_token("x", -3.5, ("x", -3.5), ("y", -0.25), ("z", -2.5))),)),
    Case(
        "a character split over tokens",
        (
            join_tokens(
                make_token("a", -0.5, ("a", -0.5), ("b", -1.5)),
                make_token(b"\xe7\xa9", -0.25, (b"\xe7\xa9", -0.25), (b"\xe9\x9d", -2.0)),
                make_token(b"\xba", -0.125, (b"\xba", -0.125), ("c", -3.0)),
                make_token("!", -0.75, ("!", -0.75)),
            ),
        ),
    ),
    Case(
        "two pieces of characters at one value",
        (
            join_tokens(
                make_token(b"\xe7", -1.0, (b"\xe7", -1.0), (b"\xe9", -1.0), (b"\xe8", -3.0)),
                make_token(b"\xa9\xba", -0.5),
            ),
        ),
    ),
    Case(
        "the same token twice",
        (join_tokens(make_token("x", -0.5, ("x", -0.5), ("x", -0.5), ("y", -2.0))),),
        needs=frozenset({"repeats"}),
    ),
    Case("a refusal", (LogicalCompletion("No.", None, "refusal"),), needs=frozenset({"refusal"})),
    Case(
        "a tool call",
        (LogicalCompletion("", None, "tool_calls", ({"name": "add", "arguments": {"b": 2, "a": "é"}},)),),
        needs=frozenset({"calls"}),
    ),
    Case(
        "cut by length",
        (
            join_tokens(
                make_token("The", -0.5, ("The", -0.5)),
                make_token(" ans", -0.25, (" ans", -0.25)),
                finish_reason="length",
            ),
        ),
    ),
    Case("filtered", (LogicalCompletion("Hm", None, "content_filter"),), needs=frozenset({"filter"})),
    Case("an empty reply", (LogicalCompletion(""),)),
    Case("no logprobs", (LogicalCompletion("Just text, 空."),)),
    Case("chosen tokens only", (join_tokens(make_token("a", -0.5), make_token("b", -0.25)),)),
    Case(
        "thinking apart",
        (LogicalCompletion("4", (make_token("4", -0.5, ("4", -0.5), ("5", -1.5)),), thinking_text="2 + 2"),),
        needs=frozenset({"thought"}),
    ),
    Case(
        "thinking listed",
        (
            replace(
                RAGGED,
                thinking_text="2 + é",
                thinking_tokens=(
                    make_token("2", -0.5, ("2", -0.5), ("3", -1.5)),
                    make_token(" + ", -1.5, ("x", -0.25)),
                    make_token(b"\xc3", -0.25, (b"\xc3", -0.25)),
                    make_token(b"\xa9", -0.125, (b"\xa9", -0.125), ("c", -3.0)),
                ),
            ),
        ),
        needs=frozenset({"thinking tokens"}),
    ),
    Case(
        "three completions",
        (RAGGED, LogicalCompletion("no logprobs"), join_tokens(make_token("b", -0.25, ("b", -0.25)))),
    ),
)


def random_case(seed: int, *, n: int = 3, length: int = 8, k: int = 5) -> Case:
    """Draw a random case: ties, sentinels, short lists, pieces of characters."""
    draw = random.Random(seed)
    words = [" a", "b", "\n", " naïve", "空", "🎈", ",", " of", "x" * 9, '"', "\\", " 12"]
    completions = []
    for _ in range(n):
        tokens = []
        for _ in range(draw.randrange(1, length + 1)):
            numbers = sorted((round(-draw.expovariate(0.3) * 8 - 20) / 8 for _ in range(k)), reverse=True)
            top = list(zip(draw.sample(words, k), numbers, strict=True))
            if draw.random() < 0.2:
                top[draw.randrange(k)] = (top[0][0] + "?", draw.choice([-9999.0, -100.0]))
            if draw.random() < 0.3:
                draw.shuffle(top)
            if draw.random() < 0.3:
                del top[draw.randrange(k) :]
            tokens.append(make_token(draw.choice(words), draw.choice([-0.25, -3.0, -17.375, -9999.0]), *top))
        pieces = [b"\xf0\x9f", b"\x8e\x88"] if draw.random() < 0.3 else []
        tokens += [make_token(piece, -0.5, (piece, -0.5)) for piece in pieces]
        tokens += [make_token(".", -0.5, (".", -0.5))]  # else all numbers may be placeholders
        finish = draw.choice(["stop", "stop", "length"])
        completions.append(join_tokens(*tokens, finish_reason=finish))
    return Case(f"drawn {seed}", tuple(completions))

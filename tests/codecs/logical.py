"""Completions as a model says them, in no wire shape yet; every writer beside this file writes the same ones."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Said:
    """One token and its list of alternatives."""

    spelled: bytes
    logprob: float | None
    top: tuple[tuple[bytes, float], ...] = ()

    @property
    def text(self) -> str:
        """As servers print it: half a character is U+FFFD."""
        return self.spelled.decode("utf-8", "replace")


@dataclass(frozen=True)
class Logical:
    """One completion."""

    text: str
    tokens: tuple[Said, ...] | None = None
    """None: no logprobs came."""
    finish: str = "stop"
    """Our word."""
    calls: tuple[dict[str, Any], ...] = ()
    """{"name", "arguments": dict}; the text is then empty."""
    thought: str = ""
    thinking: tuple[Said, ...] = ()
    """The thought's tokens, where they are listed before the answer's."""


@dataclass(frozen=True)
class Case:
    """The completions of one reply."""

    name: str
    completions: tuple[Logical, ...]
    prompt_tokens: int = 7
    k: int | None = None
    needs: frozenset[str] = field(default_factory=frozenset)
    """What a wire shape must be able to carry: "bytes", "refusal", "repeats"."""

    def alone(self) -> list[Case]:
        """One case for each completion, for formats that carry one."""
        return [replace(self, completions=(completion,)) for completion in self.completions]


def said(spelled: str | bytes, logprob: float | None, *top: tuple[str | bytes, float]) -> Said:
    """Write a token shortly."""

    def raw(token: str | bytes) -> bytes:
        return token if isinstance(token, bytes) else token.encode()

    return Said(raw(spelled), logprob, tuple((raw(token), number) for token, number in top))


def spoken(*tokens: Said, finish: str = "stop") -> Logical:
    """Join tokens to a completion."""
    return Logical(b"".join(token.spelled for token in tokens).decode(), tokens, finish)


RAGGED = spoken(
    said("The", -0.25, ("The", -0.25), ("A", -2.0), ("It", -3.5)),
    said(" answer", 0.0, (" answer", 0.0)),
    said(" is", -1.5, (" is", -1.5), (" was", -1.75)),
    said(" 12", -0.125, (" 12", -0.125), (" 13", -4.0), (" 11", -4.0), (" 1", -9.5)),
)
CASES = (
    Case("ragged k", (RAGGED,)),
    Case("ragged k, cut to two columns", (RAGGED,), k=2),
    Case("ragged k, widened to six columns", (RAGGED,), k=6),
    Case("a censored token", (spoken(said("x", -9999.0, ("y", -0.5), ("z", -1.5)), said("!", -0.5, ("!", -0.5))),)),
    Case("a censored token with one certain alternative", (spoken(said("x", -9999.0, ("y", 0.0)), said("!", -0.5)),)),
    Case("a censored alternative", (spoken(said("x", -0.5, ("x", -0.5), ("y", -100.0))),)),
    Case("a chosen token outside its list", (spoken(said("x", -7.25, ("y", -0.25), ("z", -2.5)), said("!", -0.5)),)),
    Case("an unsorted list", (spoken(said("x", -3.5, ("x", -3.5), ("y", -0.25), ("z", -2.5))),)),
    Case(
        "a character split over tokens",
        (
            spoken(
                said("a", -0.5, ("a", -0.5), ("b", -1.5)),
                said(b"\xe7\xa9", -0.25, (b"\xe7\xa9", -0.25), (b"\xe9\x9d", -2.0)),
                said(b"\xba", -0.125, (b"\xba", -0.125), ("c", -3.0)),
                said("!", -0.75, ("!", -0.75)),
            ),
        ),
    ),
    Case(
        "two pieces of characters at one value",
        (spoken(said(b"\xe7", -1.0, (b"\xe7", -1.0), (b"\xe9", -1.0), (b"\xe8", -3.0)), said(b"\xa9\xba", -0.5)),),
    ),
    Case("the same token twice", (spoken(said("x", -0.5, ("x", -0.5), ("x", -0.5), ("y", -2.0))),),
         needs=frozenset({"repeats"})),
    Case("a refusal", (Logical("No.", None, "refusal"),), needs=frozenset({"refusal"})),
    Case("a tool call", (Logical("", None, "tool_calls", ({"name": "add", "arguments": {"b": 2, "a": "é"}},)),),
         needs=frozenset({"calls"})),
    Case("cut by length", (spoken(said("The", -0.5, ("The", -0.5)), said(" ans", -0.25, (" ans", -0.25)),
                                  finish="length"),)),
    Case("filtered", (Logical("Hm", None, "content_filter"),), needs=frozenset({"filter"})),
    Case("an empty reply", (Logical(""),)),
    Case("no logprobs", (Logical("Just text, 空."),)),
    Case("chosen tokens only", (spoken(said("a", -0.5), said("b", -0.25)),)),
    Case("thinking apart", (Logical("4", (said("4", -0.5, ("4", -0.5), ("5", -1.5)),), thought="2 + 2"),),
         needs=frozenset({"thought"})),
    Case("thinking listed", (replace(RAGGED, thought="2 + é", thinking=(
        said("2", -0.5, ("2", -0.5), ("3", -1.5)), said(" + ", -1.5, ("x", -0.25)),
        said(b"\xc3", -0.25, (b"\xc3", -0.25)), said(b"\xa9", -0.125, (b"\xa9", -0.125), ("c", -3.0)))),),
         needs=frozenset({"thinking tokens"})),
    Case("three completions", (RAGGED, Logical("no logprobs"), spoken(said("b", -0.25, ("b", -0.25))))),
)  # fmt: skip


def drawn(seed: int, *, n: int = 3, length: int = 8, k: int = 5) -> Case:
    """A random case: ties, sentinels, short lists, pieces of characters."""
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
            tokens.append(said(draw.choice(words), draw.choice([-0.25, -3.0, -17.375, -9999.0]), *top))
        pieces = [b"\xf0\x9f", b"\x8e\x88"] if draw.random() < 0.3 else []
        tokens += [said(piece, -0.5, (piece, -0.5)) for piece in pieces]
        tokens += [said(".", -0.5, (".", -0.5))]  # else all numbers may be placeholders
        finish = draw.choice(["stop", "stop", "length"])
        completions.append(spoken(*tokens, finish=finish))
    return Case(f"drawn {seed}", tuple(completions))

"""A coin tracked over many people (CoinFlip of Wei et al. 2022, arXiv:2201.11903), in careful and in hasty solutions.

A careful solution names every person; a hasty one covers several at once. The model finds the parity of several people
harder, so its hasty solutions are wrong more often, by chance and not by rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random

from swift_client.pocket.problems import NAMES, Problem

# Minimum and maximum number of people, by level.
LEVELS = ((3, 5), (5, 7), (7, 9), (9, 11), (11, 13), (13, 16), (16, 19), (19, 22), (22, 26))

CAREFUL_SHARE = 0.45  # share of solutions that go person by person; the others skip

_OPENERS = ("", "Follow the coin. ", "Let me track it. ", "It starts heads up. ", "One after another. ")
_PERSON_TEMPLATES = (
    "{who} {act}, {side}.",
    "{who} {act}: {side}.",
    "{who} {act}, so {side}.",
    "{who} {act}, now {side}.",
)
_SUMMARY_TEMPLATES = (
    "After {who} it is {side}.",
    "Up to {who}: {side}.",
    "By {who} it is {side}.",
    "Until {who}: {side}.",
)
_CLOSERS = ("", "", "That was the last person. ", "So {side} is up. ")


def draw(rng: Random, level: int) -> Problem:
    """Draw a coin with as many people as ``level`` (1 to ``len(LEVELS)``) says; half of the answers are yes."""
    people = rng.sample(NAMES, rng.randint(*LEVELS[level - 1]))
    flips = tuple(rng.random() < 0.5 for _ in people)
    acts = ("does not flip", "flips")
    lines = [f"{person} {acts[flip]} the coin." for person, flip in zip(people, flips, strict=True)]
    prompt = f"A coin is heads up. {' '.join(lines)} Is the coin still heads up?"
    return Problem(prompt, "no" if sum(flips) % 2 else "yes", partial(_solve, tuple(people), flips))


def _stop_positions(rng: Random, people: int) -> Iterator[int]:
    """Yield the number of people covered so far, after each step of a hasty solution."""
    stride, position = rng.randint(2, people // 4 + 2), 0
    while position < people:
        position = min(people, position + rng.randint(stride - 1, stride + 1))
        yield position


def _solve(people: tuple[str, ...], flips: tuple[bool, ...], rng: Random) -> str:
    text, side = rng.choice(_OPENERS), "heads"
    careful = rng.random() < CAREFUL_SHARE
    for stop in range(1, len(people) + 1) if careful else _stop_positions(rng, len(people)):
        side = "tails" if sum(flips[:stop]) % 2 else "heads"
        act = "flips" if flips[stop - 1] else "does not"
        template = rng.choice(_PERSON_TEMPLATES if careful else _SUMMARY_TEMPLATES)
        text += template.format(who=people[stop - 1], act=act, side=side) + " "
    return text + rng.choice(_CLOSERS).format(side=side) + f"The answer is {'yes' if side == 'heads' else 'no'}."

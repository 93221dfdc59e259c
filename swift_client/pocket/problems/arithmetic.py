"""Word problems about a number of things that grows and shrinks over several steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from random import Random

from swift_client.pocket.problems import NAMES, Problem


@dataclass(frozen=True)
class Difficulty:
    """One level: number of steps, range of the numbers, largest total, and share and range of multiplications."""

    steps: int
    low: int
    high: int
    max_total: int
    multiply_probability: float
    factors: tuple[int, int]


LEVELS = (
    Difficulty(2, 10, 99, 999, 0.10, (2, 4)),
    Difficulty(3, 10, 99, 999, 0.20, (2, 5)),
    Difficulty(3, 10, 499, 4_999, 0.25, (2, 9)),
    Difficulty(4, 50, 999, 9_999, 0.30, (2, 9)),
    Difficulty(5, 50, 999, 9_999, 0.30, (2, 9)),
    Difficulty(6, 100, 1_999, 19_999, 0.35, (2, 9)),
    Difficulty(6, 100, 9_999, 99_999, 0.40, (3, 9)),
    Difficulty(7, 1_000, 9_999, 99_999, 0.40, (3, 9)),
    Difficulty(8, 1_000, 9_999, 99_999, 0.50, (3, 12)),
)

_THING_NAMES = tuple(
    (  # noqa: SIM905 - a table of words
        "apples books buttons cards coins eggs feathers figs keys lamps marbles nails nuts pearls pens pins plums "
        "ribbons seeds shells stamps stones tiles"
    ).split()
)
_START_TEMPLATES = (
    "{name} has {a} {things}.",
    "{name} starts with {a} {things}.",
    "There are {a} {things} in the box of {name}.",
)
_CHANGE_TEMPLATES = {
    "+": (
        "{name} finds {b} more.",
        "{other} brings {b} more.",
        "{name} buys another {b}.",
        "{b} more are added.",
        "{other} gives {name} {b} of them.",
    ),
    "-": (
        "{name} gives {b} away.",
        "{other} takes {b} of them.",
        "{b} get lost.",
        "{name} sells {b} of them.",
        "{b} are broken and thrown out.",
    ),
    "*": (
        "Then the number of {things} becomes {b} times as large.",
        "{other} makes it {b} times as many.",
        "The pile grows to {b} times its size.",
    ),
}
_QUESTION_TEMPLATES = (
    "How many {things} are there now?",
    "How many {things} does {name} have in the end?",
    "How many {things} are left?",
)

_OPENERS = (
    "",
    "Step by step. ",
    "Let me go through it in order. ",
    "I keep a running total. ",
    "First, {a} {things}. ",
    "Start with {a}. ",
)
_LEADS = ("", "Then ", "Next, ", "After that, ", "Now ", "So ")
_STEP_TEMPLATES = {
    "+": ("{sum}.", "adding {b} gives {sum}.", "{b} more make {sum}.", "that is {sum} {things}."),
    "-": ("{sum}.", "taking {b} leaves {sum}.", "{b} fewer are {sum}.", "that is {sum} {things}."),
    "*": ("{sum}.", "{b} times {a} is {sum}.", "that is {sum} {things}."),
}
_CLOSERS = ("", "", "That is the last step. ", "So {c} {things} in the end. ", "Done. ")

ArithmeticStep = tuple[str, int, int, int]


def draw(rng: Random, level: int) -> Problem:
    """Draw a word problem of ``level`` (1 to ``len(LEVELS)``); every total is between 1 and ``max_total``."""
    difficulty = LEVELS[level - 1]
    name, other = rng.sample(NAMES, 2)
    things = rng.choice(_THING_NAMES)
    total = start = rng.randint(difficulty.low, difficulty.high)
    lines = [rng.choice(_START_TEMPLATES).format(name=name, a=start, things=things)]
    steps: list[ArithmeticStep] = []
    for _ in range(difficulty.steps):
        sign, _, b, total = step = _draw_step(rng, difficulty, total)
        steps.append(step)
        lines.append(rng.choice(_CHANGE_TEMPLATES[sign]).format(name=name, other=other, b=b, things=things))
    lines.append(rng.choice(_QUESTION_TEMPLATES).format(name=name, things=things))
    return Problem(" ".join(lines), str(total), partial(_solve, tuple(steps), things))


def _draw_step(rng: Random, difficulty: Difficulty, total: int) -> ArithmeticStep:
    factor = rng.randint(*difficulty.factors)
    if rng.random() < difficulty.multiply_probability and total * factor <= difficulty.max_total:
        return "*", total, factor, total * factor
    amount = rng.randint(difficulty.low, difficulty.high)
    # A total near the limit can only shrink and one near zero can only grow.
    if total + amount > difficulty.max_total or (total > amount and rng.random() < 0.5):
        amount = min(amount, total - 1)
        return "-", total, amount, total - amount
    return "+", total, amount, total + amount


def _solve(steps: tuple[ArithmeticStep, ...], things: str, rng: Random) -> str:
    text = rng.choice(_OPENERS).format(a=steps[0][1], things=things)
    for sign, a, b, c in steps:
        body = rng.choice(_STEP_TEMPLATES[sign]).format(a=a, b=b, sum=f"{a}{sign}{b}={c}", things=things)
        lead = rng.choice(_LEADS)
        text += lead + (body if lead else body[0].upper() + body[1:]) + " "
    return text + rng.choice(_CLOSERS).format(c=steps[-1][3], things=things) + f"The answer is {steps[-1][3]}."

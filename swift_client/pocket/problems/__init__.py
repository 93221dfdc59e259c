"""Families of generated questions: each draws a text with its answer and a written solution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Problem:
    """One drawn question. ``solve(rng)`` writes a correct solution; ``rng`` only varies its wording."""

    prompt: str
    answer: str
    solve: Callable[[Random], str]


# Given names, each one word of letters.
NAMES = tuple(
    (  # noqa: SIM905 - a table of words
        "Ada Alba Amir Anna Arlo Asha Ben Bela Bruno Cara Carl Cleo Dana Dario Dora Edda Elias Emma Enzo Erik "
        "Esra Eva Felix Fay Finn Flora Gita Greta Hana Hugo Ida Ines Iris Ivan Jade Jan Jonas Jule Kai Kara "
        "Kira Kofi Lara Lea Leo Lina Luca Lucy Maja Malik Mara Mila Mina Nadia Nils Nina Noah Nora Olga Omid "
        "Omar Oskar Otto Paul Pavel Petra Pia Quinn Rafa Raj Rita Rosa Ruth Sami Sara Selma Siri Sofia Sven "
        "Tara Tess Theo Timo Tina Uma Ute Vera Viktor Vito Wanda Willa Xenia Yara Yusuf Zara Zeno Zoe"
    ).split()
)

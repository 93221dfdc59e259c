"""The training of the packaged model in order: three stages, each with its own levels, schedule and targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from swift_client.pocket.questions import FAMILIES, TRAINED_LEVELS


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one learning-rate schedule.

    ``steps`` are run of a cosine laid over ``horizon``. Levels 1 to ``first`` come first, one more after every
    ``ramp`` questions, up to ``levels[family]``. Families take ``turns``; of those in ``read`` the prompts are learnt
    as well.
    """

    steps: int
    horizon: int
    peak: float
    warmup: int
    seed: int
    first: int
    ramp: int
    levels: Mapping[str, int]
    turns: tuple[str, ...] = FAMILIES
    read_families: tuple[str, ...] = ()


STAGES = (
    Stage(
        steps=1_200,
        horizon=4_000,
        peak=3e-3,
        warmup=150,
        seed=0,
        first=2,
        ramp=6_000,
        levels={"arithmetic": 9, "coin_flip": 9, "last_letters": 9},
    ),
    # Solutions alone did not teach it to copy a person's name within 5 M tokens, and coins stayed at chance. The
    # prompts of word problems name a person twice: learning those prompts as well teaches it. Levels that cost most
    # tokens and are never asked go.
    Stage(
        steps=1_600,
        horizon=2_600,
        peak=2.4e-3,
        warmup=50,
        seed=1,
        first=4,
        ramp=6_000,
        levels=TRAINED_LEVELS,
        read_families=("arithmetic",),
    ),
    # Names were copied by now, but their flips not added up: more coins.
    Stage(
        steps=1_200,
        horizon=1_800,
        peak=1.5e-3,
        warmup=50,
        seed=2,
        first=3,
        ramp=3_000,
        levels=TRAINED_LEVELS,
        turns=("arithmetic", "coin_flip", "arithmetic", "coin_flip", "last_letters"),
        read_families=("arithmetic",),
    ),
)

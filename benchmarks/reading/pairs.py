"""Pairs of values in many writings, drawn with a seed: some are different, some are equal, by construction.

Every value is drawn as numbers (a date as year, month and day) and then written; two writings are equal exactly where
the drawn numbers are equal, so that no reader decides what is right.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from swift_client.answers import are_equal, read
from swift_client.dataset.graders import grade

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
Draw = random.Random


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two writings."""

    kind: str
    left: str
    right: str
    is_equal: bool


def draw_date(draw: Draw) -> tuple[int, int, int]:
    """Draw a date whose day is above 12, so that its writing with numbers has one meaning."""
    return draw.randint(1900, 2030), draw.randint(1, 12), draw.randint(13, 28)


def write_date(value: tuple[int, int, int]) -> list[str]:
    """Write a date in ISO, American, European and spelt-out ways."""
    year, month, day = value
    name = MONTHS[month - 1]
    numbers = [
        f"{year}-{month:02}-{day:02}",
        f"{month}/{day}/{year}",
        f"{month:02}/{day:02}/{year}",
        f"{year}/{month:02}/{day:02}",
        f"{day:02}.{month:02}.{year}",
    ]
    words = [
        f"{day} {name} {year}",
        f"{name} {day}, {year}",
        f"{name} {ordinal(day)}, {year}",
        f"{day} {name[:3]} {year}",
        f"{name[:3]}. {day}, {year}",
        f"the {ordinal(day)} of {name} {year}",
    ]
    return numbers + words


def ordinal(day: int) -> str:
    """Write 21 as 21st."""
    suffix = "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"


def draw_score(draw: Draw) -> tuple[int, int]:
    """Draw the result of a match."""
    return draw.randint(0, 7), draw.randint(0, 7)


def write_score(value: tuple[int, int]) -> list[str]:
    """Write a score."""
    return [f"{value[0]}-{value[1]}", f"{value[0]}–{value[1]}", f"{value[0]} - {value[1]}"]


def draw_ip(draw: Draw) -> tuple[int, ...]:
    """Draw an IPv4 address."""
    return (*draw.choice([(192, 168), (10, 0), (172, 16)]), draw.randint(0, 3), draw.randint(1, 254))


def write_ip(value: tuple[int, ...]) -> list[str]:
    """Write an address, bare and in code marks."""
    address = ".".join(map(str, value))
    return [address, f"`{address}`", f"**{address}**"]


def draw_street(draw: Draw) -> tuple[int, str, int]:
    """Draw house number, street and postal code."""
    street = draw.choice(("Oak Street", "5th Avenue", "Main Street", "Elm Road", "42nd Street"))
    return draw.randint(1, 99), street, draw.randint(10000, 10020)


def write_street(value: tuple[int, str, int]) -> list[str]:
    """Write a street address."""
    number, street, code = value
    return [f"{number} {street}, {code}", f"{number} {street} {code}", f"{number} {street.upper()}, {code}"]


def draw_phone(draw: Draw) -> tuple[str, int, int, int]:
    """Draw a North American number with or without its country code."""
    return draw.choice(("", "+1")), draw.randint(201, 989), draw.choice((555, 867)), draw.randint(100, 9999)


def write_phone(value: tuple[str, int, int, int]) -> list[str]:
    """Write a phone number."""
    country, area, office, line = value
    if country:
        return [f"{country} {area} {office} {line:04}", f"{country}-{area}-{office}-{line:04}",
                f"{country} ({area}) {office}-{line:04}"]  # fmt: skip
    return [f"{area}-{office}-{line:04}", f"({area}) {office}-{line:04}", f"{area}.{office}.{line:04}"]


def draw_time(draw: Draw) -> tuple[int, int]:
    """Draw hours and minutes of a day."""
    return draw.randint(1, 23), draw.choice((0, 5, 15, 30, 45, 50))


def write_time(value: tuple[int, int]) -> list[str]:
    """Write a time with 24 and with 12 hours."""
    hour, minute = value
    half, twelve = ("am", "pm")[hour >= 12], (hour - 1) % 12 + 1
    dotted = f"{half[0]}.m."
    bare = [] if minute else [f"{twelve} {half}", f"{twelve}{half.upper()}"]
    return [f"{twelve}:{minute:02} {half}", f"{twelve}:{minute:02} {half.upper()}", f"{twelve}:{minute:02}{half}",
            f"{twelve}:{minute:02} {dotted}", f"{hour:02}:{minute:02}", *bare]  # fmt: skip


def draw_version(draw: Draw) -> tuple[int, ...]:
    """Draw a version of three parts."""
    return draw.randint(0, 3), draw.randint(0, 20), draw.randint(0, 9)


def write_version(value: tuple[int, ...]) -> list[str]:
    """Write a version."""
    version = ".".join(map(str, value))
    return [version, f"v{version}", f"version {version}"]


def draw_ratio(draw: Draw) -> tuple[int, int]:
    """Draw a ratio of coprime numbers, so that no two are the same share."""
    return draw.choice(((1, 2), (2, 1), (3, 2), (2, 3), (3, 4), (4, 3), (5, 2), (1, 4), (7, 3), (1, 6)))


def write_ratio(value: tuple[int, int]) -> list[str]:
    """Write a ratio."""
    return [f"{value[0]}:{value[1]}", f"{value[0]} : {value[1]}", f"{value[0]} to {value[1]}"]


def draw_span(draw: Draw) -> tuple[int, int]:
    """Draw a span of years."""
    start = draw.randint(1800, 1990)
    return start, start + draw.randint(1, 40)


def write_span(value: tuple[int, int]) -> list[str]:
    """Write a span of years."""
    return [f"{value[0]}-{value[1]}", f"{value[0]}–{value[1]}", f"{value[0]} - {value[1]}"]


def draw_short_date(draw: Draw) -> tuple[int, int, int]:
    """Draw a date whose day may be taken for its month: different as soon as the two are exchanged."""
    first = draw.randint(1, 9)
    return draw.randint(1900, 2030), first, draw.choice([number for number in range(1, 10) if number != first])


def write_short_date(value: tuple[int, int, int]) -> list[str]:
    """Write a date with slashes, with and without zeros."""
    year, first, second = value
    return [f"{first}/{second}/{year}", f"{first:02}/{second:02}/{year}"]


def draw_verse(draw: Draw) -> tuple[str, int, int]:
    """Draw book, chapter and verse."""
    return draw.choice(("John", "Psalm", "Genesis")), draw.randint(1, 21), draw.randint(1, 30)


def write_verse(value: tuple[str, int, int]) -> list[str]:
    """Write a verse."""
    return [f"{value[0]} {value[1]}:{value[2]}", f"**{value[0]} {value[1]}:{value[2]}**"]


def draw_isbn(draw: Draw) -> tuple[int, ...]:
    """Draw the groups of a book's number."""
    return draw.randint(0, 9), draw.randint(10, 99), draw.randint(100000, 100009), draw.randint(0, 9)


def write_isbn(value: tuple[int, ...]) -> list[str]:
    """Write a book's number with hyphens and with spaces."""
    groups = [str(part) for part in (978, *value)]
    return ["-".join(groups), " ".join(groups)]


# Per kind: how a value is drawn and in which ways it is written.
KINDS: dict[str, tuple[Callable[[Draw], Any], Callable[[Any], list[str]]]] = {
    "date": (draw_date, write_date),
    "short date": (draw_short_date, write_short_date),
    "score": (draw_score, write_score),
    "IP address": (draw_ip, write_ip),
    "street address": (draw_street, write_street),
    "phone number": (draw_phone, write_phone),
    "time": (draw_time, write_time),
    "version": (draw_version, write_version),
    "ratio": (draw_ratio, write_ratio),
    "span of years": (draw_span, write_span),
    "verse": (draw_verse, write_verse),
    "book number": (draw_isbn, write_isbn),
}


def nearby(draw: Draw, value: tuple[Any, ...], make: Callable[[Draw], tuple[Any, ...]]) -> tuple[Any, ...]:
    """Draw another value: half of them differ in one part only, some are a permutation, since sums would not notice."""
    while True:
        other = make(draw)
        mode = draw.random()
        if mode < 0.5:
            place = draw.randrange(len(value))
            other = (*value[:place], other[place], *value[place + 1 :])
        elif mode < 0.75 and all(isinstance(part, int) for part in value[-2:]) and value[-1] < 13 > value[-2]:
            other = (*value[:-2], value[-1], value[-2])
        if other != value:
            return other


def draw_pairs(per_kind: int, seed: int = 0) -> Iterator[Pair]:
    """Yield ``per_kind`` different and as many equal pairs of every kind, and of values against a part of them."""
    for kind, (make, write) in KINDS.items():
        draw = random.Random(f"{seed} {kind}")
        for _ in range(per_kind):
            value = make(draw)
            other = nearby(draw, value, make)
            yield Pair(kind=kind, left=draw.choice(write(value)), right=draw.choice(write(other)), is_equal=False)
            left, right = draw.sample(list(dict.fromkeys(write(value))), 2)
            yield Pair(kind=kind, left=left, right=right, is_equal=True)
    for kind in KINDS:
        make, write = KINDS[kind]
        draw = random.Random(f"{seed} {kind} and a number")
        for _ in range(max(1, per_kind // 5)):
            value = make(draw)
            numbers = [part for part in value if isinstance(part, int)]
            number = draw.choice((numbers[0], numbers[-1], numbers[0] - sum(numbers[1:])))
            if kind == "time" and value[1] == 0 and number % 12 == value[0] % 12:
                continue  # "3 pm" and "3" may be one answer
            yield Pair(
                kind=f"{kind} and number", left=draw.choice(write(value)), right=str(number), is_equal=False
            )  # fmt: skip


def ways_merged(pair: Pair) -> list[str]:
    """Return the ways in which the two writings count as one answer."""
    answers = (f"Answer: {pair.left}", f"So the answer is {pair.right}.")
    groups = read(answers, "auto").groups
    ways = {
        "are_equal": are_equal(pair.left, pair.right),
        "vote": groups[0] is not None and groups[0] == groups[1],
        "grade": grade(answers[0], pair.right, "auto") is True,
    }
    return [way for way, is_merged in ways.items() if is_merged]


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """What became of the pairs."""

    false_merges: float  # share of the different pairs that any way merges
    missed_merges: float  # share of the equal pairs that any way keeps apart
    n_different: int
    n_equal: int
    false_by_kind: dict[str, int]
    missed_by_kind: dict[str, int]
    examples: list[str]


def measure_pairs(per_kind: int, seed: int = 0, examples: int = 12) -> PairResult:
    """Compare every pair in every way."""
    false, missed, counts = Counter[str](), Counter[str](), Counter[bool]()
    shown: list[str] = []
    for pair in draw_pairs(per_kind, seed):
        counts[pair.is_equal] += 1
        ways = ways_merged(pair)
        if pair.is_equal and len(ways) < 3:
            missed[pair.kind] += 1
            shown.append(f"missed by {3 - len(ways)} of 3 ways: {pair.left!r} and {pair.right!r}")
        elif not pair.is_equal and ways:
            false[pair.kind] += 1
            shown.append(f"merged by {', '.join(ways)}: {pair.left!r} and {pair.right!r}")
    return PairResult(
        false_merges=false.total() / counts[False],
        missed_merges=missed.total() / counts[True],
        n_different=counts[False],
        n_equal=counts[True],
        false_by_kind=dict(false),
        missed_by_kind=dict(missed),
        examples=sorted(shown, key=hash_of)[:examples],
    )


def hash_of(text: str) -> float:
    """Return a number that depends on the text alone, for a mixed order that is the same in every run."""
    return random.Random(text).random()

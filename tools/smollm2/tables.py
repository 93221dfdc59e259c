"""Tables of facts and words: files in ``data/``, and two tables that are computed."""

from __future__ import annotations

import csv
from pathlib import Path

Row = dict[str, str]

_FOLDER = Path(__file__).with_name("data")


def read_table(name: str) -> list[Row]:
    """Return the rows of a table; cells that do not exist are missing from their row."""
    if name == "numbers":
        return [_number_row(number) for number in range(7, 157)]
    if name == "sums":
        return [_sum_row(a, b) for a in range(1, 13) for b in range(1, 13)]
    with (_FOLDER / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        rows = [
            {column: cell for column, cell in row.items() if cell != "-"}
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]
    if name == "kinds":
        return [row | {"second": row["word"][1], "last": row["word"][-1]} for row in rows]
    return [row | _sentences(row) for row in rows] if name == "clauses" else rows


def _number_row(number: int) -> Row:
    return {
        "number": str(number),
        "words": write_number(number),
        "first": str(number - 6),
        "second": str(number - 4),
        "third": str(number - 2),
    }


def _sum_row(a: int, b: int) -> Row:
    # Numbers of two digits that differ in both, for comparing.
    c, d = 10 * a + b % 10, 10 * (a + 1 if b % 2 else a - 1) + (b * 7 + 3) % 10
    return {
        "pair": f"{a} and {b}",
        "a": str(a),
        "b": str(b),
        "sum": str(a + b),
        "c": str(c),
        "d": str(d),
        "larger": str(max(c, d)),
    }


_ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
_TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def write_number(number: int) -> str:
    """Return an English name of a number below 200."""
    if number >= 100:
        return "one hundred" + (f" {write_number(number - 100)}" if number > 100 else "")
    if number < 20:
        return _ONES[number]
    return _TENS[number // 10] + (f"-{_ONES[number % 10]}" if number % 10 else "")


def _sentences(row: Row) -> Row:
    subject = "He" if len(row["base"]) % 2 else "She"
    base, rest = row["base"], row["rest"]
    return {
        "present": f"{subject} {row['third']} {rest}.",
        "past_negative": f"{subject} did not {base} {rest}.",
        "past_question": f"Did {subject.lower()} {base} {rest}?",
    }

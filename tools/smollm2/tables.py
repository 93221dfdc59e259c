"""Tables of facts and words: files in ``data/``, and numbers."""

from __future__ import annotations

import csv
from pathlib import Path

Row = dict[str, str]

_FOLDER = Path(__file__).with_name("data")


def read_table(name: str) -> list[Row]:
    """Return the rows of a table; cells that do not exist are missing from their row.

    Of several right values in one cell, the first is the column's, and the rest stands under ``other_values(column)``.
    """
    if name == "numbers":
        return [_number_row(number) for number in range(7, 157)]
    with (_FOLDER / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        return [_split_cells(row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def other_values(column: str) -> str:
    """Return the name of the column with further right values, separated by ``|``."""
    return f"other {column}"


def _split_cells(row: Row) -> Row:
    cells: Row = {}
    for column, cell in row.items():
        if cell != "-":
            cells[column], _, others = cell.partition("|")
            if others:
                cells[other_values(column)] = others
    return cells


def _number_row(number: int) -> Row:
    return {
        "number": str(number),
        "words": write_number(number),
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

"""Stand-ins for token texts: nothing of the text is left, but features of tokens keep their values.

Features read if a token has digits, letters or only symbols, if it begins with a space, how long it is, and how many
different tokens a text has (``features.token_table.describe_text``). All of these stay as they were. Which tokens were
equal does not: a text whose repeated tokens could be told would be a substitution cipher.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swift_client.types.completion import STAND_IN_LETTER, Bool

# The n-th stand-in of a kind begins with the n-th of these letters, digits or symbols.
_LETTERS = (range(ord(STAND_IN_LETTER), 0xA48D), range(0x4E00, 0xA000), range(0xAC00, 0xD7A4))
_SYMBOLS = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE))
_DIGITS = (range(0x30, 0x3A), range(0x660, 0x66A), range(0x966, 0x970), range(0x1D7CE, 0x1D800))


def replace_tokens(tokens: Sequence[str], is_replaced: Bool) -> tuple[str, ...]:
    """Return the tokens (T,), those of ``is_replaced`` (T,) as stand-ins; tokens of white space stay as they are."""
    labels: dict[tuple[int, bool, bool, bool], dict[str, int]] = {}
    counts: dict[tuple[int, bool, bool, bool], int] = {}
    replaced = [int(index) for index in np.flatnonzero(is_replaced)]
    for index in replaced:
        numbers = labels.setdefault(_kind(tokens[index]), {})
        numbers.setdefault(tokens[index], len(numbers))
    result = list(tokens)
    for index in replaced:
        kind = _kind(tokens[index])
        if not kind[0]:
            continue
        # As many different stand-ins as there were tokens of the kind: the first tokens get one each.
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        result[index] = _stand_in(kind, number if number < len(labels[kind]) else 0)
    return tuple(result)


def _kind(token: str) -> tuple[int, bool, bool, bool]:
    """Return the length without white space around, and if there are digits, letters or digits, and a first space."""
    return len(token.strip()), any(map(str.isdigit, token)), any(map(str.isalnum, token)), token[:1].isspace()


def _stand_in(kind: tuple[int, bool, bool, bool], number: int) -> str:
    length, has_digit, is_word, starts_word = kind
    if not is_word:
        text = _character(_SYMBOLS, number) + "\ue000" * (length - 1)
    elif not has_digit:
        text = _character(_LETTERS, number) + STAND_IN_LETTER * (length - 1)
    elif length == 1:
        text = _character(_DIGITS, number)
    else:
        text = "0" + _character(_LETTERS, number) + STAND_IN_LETTER * (length - 2)
    return " " + text if starts_word else text


def _character(ranges: Sequence[range], number: int) -> str:
    for characters in ranges:
        if number < len(characters):
            return chr(characters[number])
        number -= len(characters)
    return chr(ranges[0][0])

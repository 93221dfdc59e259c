"""Presets of ``redact=``: mail addresses, phone numbers, payment cards, bank accounts and keys, each with a mark.

Precision comes before recall for numbers, since the answers of a model are often numbers: a number counts as a phone
number only if it is written as one, and as a card or an account only if its check digits agree. Every pattern takes
time linear in the text, whatever the text: its repetitions are bounded, or cannot begin inside one another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from swift_client.redaction.secret_keys import redact_keys

# Before the sign at most 64 characters (RFC 5321), after it at most 8 labels of 63.
_MAIL = re.compile(
    r"(?<![\w.%+'-])[\w%+'-](?:[\w.%+'-]{0,62}[\w%+'-])?(?:@|[ ]?[(\[]at[)\]][ ]?)"
    r"[\w-]{1,63}(?:\.[\w-]{1,63}){0,6}\.(?:[^\W\d_]{2,24}|xn--[\w-]{1,59})(?![\w-])",
    re.IGNORECASE,
)

_MAIL_SIGN = re.compile(r"@|[(\[][aA][tT][)\]]")

_GAP = r"[ \t.\u00a0\u2009\u202f/\u2010-\u2013-]"
# "+" or "00", the country and the rest, however it is grouped: +49 (0)171 5550123, 0044 20 7946 0958.
_INTERNATIONAL = rf"(?:\+[1-9]|00[1-9]\d{{0,2}}{_GAP}\(?\d)\)?(?:{_GAP}?\(?\d\)?){{5,13}}"
# North America, with brackets or separators: 415-555-0132, (415) 555-0132, 1-415-555-0132.
_NORTH_AMERICAN = r"(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[-.])[2-9]\d\d[-. ]\d{4}"
# National, with the 0 of an area and at least one separator: 030 901820, 0171/5550123, 06 12 34 56 78.
_NATIONAL = r"(?<!\d )\(?0[1-9]\d{0,4}\)?(?:[ /\u2010-\u2013-]{1,2}\d{2,8}){1,4}(?! ?\d)"
_PHONE = re.compile(
    rf"(?<![\w.,+/=*^$\u2010-\u2013-])(?:{_INTERNATIONAL}|{_NORTH_AMERICAN}|{_NATIONAL})(?!\d)(?![.,]\d)"
)
# After a word that announces one: "Tel. 4155550132", "call me at 555-0132", "WhatsApp: 0171 5550123".
_ANNOUNCED_PHONE = re.compile(
    r"(\b(?:tel|telephone|telefon|phone|mobile|mobil|handy|cell|fax|whatsapp|call (?:me|us) (?:at|on))"
    r"(?: number| no)?(?:[.:]{1,2}| is)?[ \t]{1,3})"
    rf"(\(?\d\)?(?:{_GAP}?\(?\d\)?){{5,14}})(?!\d)",
    re.IGNORECASE,
)
# A text without them has no number of any kind; looking for them is quick.
_FOUR_DIGITS = re.compile(r"\d[\d() \t.\u00a0\u2009\u202f/\u2010-\u2013-]{2,}\d")
_DATE = re.compile(r"0?\d{1,2}[ ./-]\d{1,2}[ ./-]\d{2,4}")
_MIN_PHONE_DIGITS = 8  # of numbers that no word announces

# 13 to 19 digits together or in groups as on cards, each group behind the same separator; ``_is_card()`` checks them.
_CARD = re.compile(
    r"(?<!\d)(?<!\d[.,])(?:\d{13,19}|\d{4}([ \u00a0.-])\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})?"
    r"|\d{4}([ \u00a0.-])\d{6}\2\d{4,5})(?!\d)(?![.,]\d)"
)
# First digits of cards by network, and their numbers of digits.
_NETWORKS = (
    (re.compile(r"4"), (13, 16, 19)),  # Visa
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),  # Mastercard
    (re.compile(r"3[47]"), (15,)),  # American Express
    (re.compile(r"30[0-5]|3[689]"), (14, 16)),  # Diners Club
    (re.compile(r"6011|64[4-9]|65"), (16, 19)),  # Discover
    (re.compile(r"35(?:2[89]|[3-8])"), (16,)),  # JCB
    (re.compile(r"62"), (16, 17, 18, 19)),  # UnionPay
    (re.compile(r"220[0-4]"), (16,)),  # Mir
)
# Country, check digits and 11 to 30 characters, together or in groups of four.
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d\d(?:[ \u00a0]?[A-Z0-9]{4}){2,7}(?:[ \u00a0]?[A-Z0-9]{1,3})?(?!\w)")
_MIN_IBAN, _MAX_IBAN = 15, 34  # characters


def redact_mails(text: str) -> str:
    """Replace mail addresses, also those written with "(at)", by ``[mail]``."""
    return _MAIL.sub("[mail]", text) if _MAIL_SIGN.search(text) else text


def redact_phones(text: str) -> str:
    """Replace phone numbers that are written as such, or announced by a word, by ``[phone]``."""
    if not _FOUR_DIGITS.search(text):
        return text
    text = _ANNOUNCED_PHONE.sub(r"\1[phone]", text)
    return _PHONE.sub(lambda match: "[phone]" if _is_phone(match[0]) else match[0], text)


def redact_cards(text: str) -> str:
    """Replace numbers of payment cards, which have a network's first digits and pass Luhn's test, by ``[card]``."""
    return (
        text
        if not _FOUR_DIGITS.search(text)
        else _CARD.sub(lambda match: "[card]" if _is_card(match[0]) else match[0], text)
    )


def redact_ibans(text: str) -> str:
    """Replace international bank account numbers whose check digits agree (ISO 7064) by ``[iban]``."""
    return text if not _FOUR_DIGITS.search(text) else _IBAN.sub(lambda match: _replace_iban(match[0]), text)


def _is_phone(text: str) -> bool:
    return sum(map(str.isdigit, text)) >= _MIN_PHONE_DIGITS and not _DATE.fullmatch(text)


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    has_network = any(start.match(digits) and len(digits) in lengths for start, lengths in _NETWORKS)
    return has_network and len(set(digits)) > 1 and passes_luhn(digits)


def passes_luhn(digits: str) -> bool:
    """Return True if the last digit is the check digit of the others (ISO/IEC 7812-1)."""
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    return (sum(value - 9 * (value > 9) for value in doubled) + sum(map(int, digits[::-2]))) % 10 == 0


def _replace_iban(text: str) -> str:
    """Replace an account number at the begin of ``text``; groups behind it, such as "BIC", are kept."""
    end = len(text)
    while end > 0:
        compact = re.sub(r"\s", "", text[:end])
        if _MIN_IBAN <= len(compact) <= _MAX_IBAN and _is_iban(compact):
            return "[iban]" + text[end:]
        end = max(text.rfind(gap, 0, end) for gap in " \u00a0")
    return text


def _is_iban(compact: str) -> bool:
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


# In the order in which they are applied: a key or an account may contain what looks like a phone number.
PRESETS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "keys": redact_keys,
        "mails": redact_mails,
        "ibans": redact_ibans,
        "cards": redact_cards,
        "phones": redact_phones,
    }
)

"""Digits that are no arithmetic: ratios, scores, ranges, addresses, versions, telephone numbers."""

from __future__ import annotations

import re

from swift_client.answers.values.value import Value

_RATIO = re.compile(r"\d+(?:\.\d+)?(?: ?: ?\d+(?:\.\d+)?)+")
_SCORE = re.compile(r"\d+(?: ?-{1,2} ?\d+)+|\d+(?:\.\d+)?(?: (?:to|zu|bis) \d+(?:\.\d+)?)+")
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?:[/:]\d{1,5})?")
_HEX_ADDRESS = re.compile(r"(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}|(?=.*(?:[a-f]|::))(?=.*:.*:)[0-9a-f:]{2,39}(?:/\d+)?")
_VERSION = re.compile(r"(?:v|ver\.?|version)\.? ?\d+(?:\.\d+)*(?:[-.]?(?:rc|alpha|beta|a|b)\.?\d*)?|\d+(?:\.\d+){2,}")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:(?: \d{3})+|(?:\.\d{3})+)")
_PHONE = re.compile(r"(?:tel\.?:? ?)?(\+?)(\(?\d{1,15}+\)?(?:[-. /]{0,2}+\(?\d{1,15}+\)?){0,8})")


def parse_code(text: str) -> Value | None:
    """Return the ratio, score, address, version or telephone number that ``text`` in lower case is, or None.

    A ratio and a score are equal only if their members are: ``4:2`` is not ``2:1``, and ``3-0`` is ``3:0``.
    """
    if _ADDRESS.fullmatch(text) and all(int(part) < 256 for part in re.split(r"[./:]", text)[:4]):
        return Value("address", ("address", text), text)
    phone = _parse_phone(text)
    if phone:
        return phone
    if _VERSION.fullmatch(text) and not _THOUSANDS.fullmatch(text):
        name = re.sub(r"^(?:version|ver|v)\.? ?", "", text)
        return Value("version", ("version", name), f"v{name}" if name != text and "." in name else text)
    if _RATIO.fullmatch(text):
        return _make_pair("ratio", re.split(" ?: ?", text), ":")
    if _SCORE.fullmatch(text):
        return _make_pair("score", re.split(" ?-{1,2} ?| (?:to|zu|bis) ", text), "-")
    if _HEX_ADDRESS.fullmatch(text):
        return Value("address", ("address", text), text)
    return None


def _make_pair(kind: str, members: list[str], sign: str) -> Value:
    first = members[0].lstrip("0") or "0"
    return Value(kind, ("ratio", first, *members[1:]), sign.join((first, *members[1:])))


def _parse_phone(text: str) -> Value | None:
    match = _PHONE.fullmatch(text)
    if match is None:
        return None
    groups = re.findall(r"\d+", match[2])
    digits = "".join(groups)
    if not 7 <= len(digits) <= 15:
        return None
    if not match[1] and "(" not in text:
        if len(groups) < 3 or "/" in text:
            return None
        if not re.fullmatch(r"\d+(?:-\d+)+|\d+(?:\.\d+)+|\d+(?: \d+)+", match[2]):
            return None
        if _THOUSANDS.fullmatch(match[2]) or (len(groups) < 4 and len(groups[-1]) < 3):
            return None
    if match[1] and len(groups) == 1 and len(digits) < 10:
        return None
    shown = "-".join(groups) if match[1] or len(groups) > 2 else f"({groups[0]}) {'-'.join(groups[1:])}"
    return Value("phone", ("phone", match[1] + digits), match[1] + shown)

"""The preset "keys": API keys, tokens, private keys and passwords."""

from __future__ import annotations

import math
import re
from collections import Counter

_MARK = "[key]"
# Begins of keys that their issuers document, each with the characters that follow.
_ISSUED = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"(?:sk|pk|rk)[-_](?:live|test|proj|ant|or|svcacct)?[-_]?[A-Za-z0-9][A-Za-z0-9_-]{15,}+"  # OpenAI, Stripe, ...
    r"|(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{16}(?![A-Z0-9])"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{20,}+|github_pat_[A-Za-z0-9_]{20,}+|glpat-[A-Za-z0-9_-]{16,}+"  # GitHub, GitLab
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}+"  # Slack
    r"|AIza[A-Za-z0-9_-]{30,}+|ya29\.[A-Za-z0-9_-]{20,}+|GOCSPX-[A-Za-z0-9_-]{20,}+"  # Google
    r"|(?:hf|gsk|xai|pplx|r8|npm|dop_v1|fw|tgp_v1|nvapi|lsv2_[ps]t|pypi|SG\.)[-_.]?[A-Za-z0-9][A-Za-z0-9_.-]{19,}+"
    r")"
)
# JSON Web Tokens: three parts in base64url, of which the first is a JSON object.
_JWT = re.compile(r"(?<![\w-])eyJ[A-Za-z0-9_-]{5,}+\.[A-Za-z0-9_-]{5,}+(?:\.[A-Za-z0-9_-]*+)?")
_PEM_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
# The user and the password of a URL.
_URL_LOGIN = re.compile(r"(?<=://)[^\s/@:'\"<>]{0,100}:[^\s/@'\"<>]{1,200}(?=@)")
_BEARER = re.compile(r"(?<=\b[Bb]earer )[A-Za-z0-9._~+/=-]{16,}+")
# The value after a name that announces a secret: api_key = "...", "password": "...", TOKEN=...
_NAMED = re.compile(
    r"(?i)((?:api[_-]?key|apikey|access[_-]?key|secret[_-]?key|secret|token|passwd|password|pwd|credential|auth)s?"
    r"['\"]?[ \t]{0,3}(?::=|=>|=|:)[ \t]{0,3})(['\"]?)([^\s'\",;<>]{6,}+)"
)
_ASSIGNED = re.compile(r"[A-Za-z]['\"]?[ \t]{0,3}[:=]")  # a text without it names no value
_MIN_ENTROPY = 3.0  # bits per character, of values that are not quoted passwords
_PASSWORD_NAME = re.compile(r"(?i)passw(?:or)?d|pwd")


def redact_keys(text: str) -> str:
    """Replace keys, tokens, private keys, passwords in URLs and values named as secrets by ``[key]``."""
    if "PRIVATE KEY" in text:
        text = _redact_private_keys(text)
    text = _JWT.sub(_MARK, text)
    text = _ISSUED.sub(lambda match: _MARK if _has_digit(match[0]) else match[0], text)
    text = _URL_LOGIN.sub(_MARK, text)
    text = _BEARER.sub(lambda match: _MARK if _has_digit(match[0]) else match[0], text)
    return _NAMED.sub(_replace_value, text) if _ASSIGNED.search(text) else text


def _redact_private_keys(text: str) -> str:
    """Replace every PEM block of a private key; one without an end is cut off to the end of the text."""
    parts, position = [], 0
    while (begin := _PEM_BEGIN.search(text, position)) is not None:
        end = _PEM_END.search(text, begin.end())
        parts += [text[position : begin.start()], _MARK]
        position = len(text) if end is None else end.end()
    return "".join([*parts, text[position:]])


def _replace_value(match: re.Match[str]) -> str:
    name, quote, value = match.groups()
    if value.startswith(_MARK):
        return match[0]
    is_password = bool(_PASSWORD_NAME.match(name)) and (bool(quote) or _has_digit(value))
    looks_random = len(value) >= 12 and _has_digit(value) and _entropy(value) >= _MIN_ENTROPY
    return f"{name}{quote}{_MARK}" if is_password or looks_random else match[0]


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _entropy(text: str) -> float:
    """Return the entropy of the characters, in bits per character."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)

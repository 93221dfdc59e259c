"""Sentences and phrases: where a sentence ends, the end of a chain of equations, a name or phrase as an answer."""

from __future__ import annotations

import json
import re
from collections import deque

from swift_client.answers.values import Value
from swift_client.answers.values.scan import scan_values

_WORD = re.compile(r"[^\W\d_]+")
_NO_LETTERS = {code: " " for code in range(128) if not chr(code).isalpha()}
_UNSPACED = re.compile("[\u0900-\u09ff\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text in lower case; UNSPACED is one of them if it has Chinese, Japanese, Korean or Thai."""
    if text.isascii():
        return frozenset(text.lower().translate(_NO_LETTERS).split())
    words = frozenset(_WORD.findall(text.lower()))
    return words | {UNSPACED} if _UNSPACED.search(text) else words


UNSPACED = "\0"
WINDOW = 400  # characters after a mark in which its value is sought

_STOP = re.compile(r"[。！？؟।]|[.!?]+[\"'”’)\]*_]*(?=\s|$)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|st|prof|jr|sr|gen|col|sgt|lt|capt|rev|hon|gov|sen|rep|pres|mt|ft|inc|ltd|co|corp|bros|dept"
    r"|univ|est|approx|ca|fig|eq|sec|vol|vs|etc|viz|cf|al|ph\.d|nos?|nr|núm|bzw|usw|sra?|dra|mme|mlle|art|pp?"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)|(?:\b[A-Za-z]\.)+[A-Za-z]|(?<![\w'’])[A-Z])$",
    re.IGNORECASE,
)
_NEW_SENTENCE = re.compile(
    r"\s+[*_\"'“]*(?:the|this|that|these|those|it|its|i|we|you|they|he|she|his|her|because"
    r"|since|so|thus|hence|therefore"
    r"|however|but|and|in|on|to|if|as|for|let|here|there|now|note|option|choice|answer"
    r"|all|each|both|explanation|reason"
    r"|step|first|wait|no|yes|my|our|by|with|when|while|also|please|hope|actually|correction|sorry|scratch)\b",
    re.IGNORECASE,
)
_TITLE = re.compile(r"\b(?:mr|mrs|ms|dr|prof|rev|gov|sen|gen|col|sgt|capt)$", re.IGNORECASE)
_INITIAL = re.compile(r"(?<![\w'’.])[A-Z]$")
_MONTH = re.compile(
    r"\s*(?:jan|feb|mär|mar|apr|mai|maj|jun|jul|aug|sep|okt|oct|nov|dez|dec|des|led|úno"
    r"|bře|tammi|helmi)",
    re.IGNORECASE,
)


def sentence_end(text: str, start: int = 0) -> int:
    """Return the index of the stop that ends the first sentence; an abbreviation or initial does not end one."""
    for stop in _STOP.finditer(text, start):
        if stop[0][0] != "." or not _is_abbreviation(text, start, stop):
            return stop.start()
    return len(text)


def _is_abbreviation(text: str, start: int, stop: re.Match[str]) -> bool:
    after = text[stop.end() : stop.end() + 24]
    before = text[max(start, stop.start() - 12) : stop.start()]
    if not after.strip():
        return False
    if not _ABBREVIATION.search(before):  # the day of "5. Mai 2020", but not "18. The others"
        return before[-1:].isdigit() and _MONTH.match(after) is not None
    if _TITLE.search(before) and after[:1] == " " and after[1:2].isupper():  # "Dr. No"
        return True
    if before[-2:].lower() == "no":
        return after.lstrip()[:1].isdigit()
    if _INITIAL.search(before):
        return after[:1] == " " and after.lstrip()[:1].isupper() and not _NEW_SENTENCE.match(after)
    return after.lstrip(" *_\"'“")[:1].islower() or not _NEW_SENTENCE.match(after)  # "E.T. the Extra-Terrestrial"


SKIPPED = re.compile(r"[\s:*_`\"'“”„«»>~]*(?:#{1,3} )?[*_\"'“„«]*")
_CLOSING = (("*", "*"), ("_", "_"), ("`", "`"), ('"', '"'), ("'", "'"), ("“", "”"), ("„", "“"), ("«", "»"))


def close(span: str, opened: str) -> str:
    """Remove the signs that close what was opened before the span."""
    span = span.replace("**", "").strip()
    for sign, closing in _CLOSING:
        if sign in opened and closing in span:
            span = span.replace(closing, "", 1)
    if span.endswith(")") and "(" not in span:  # "(Answer: 12)"
        span = span[:-1]
    return _COPULA_BEHIND.sub("", span.strip())


# "42です。", "42입니다.": the verb of the sentence stands behind the value.
_COPULA_BEHIND = re.compile(r"(?:です|である|だ|となります|になります|입니다|이다|है|است)?[。！।.]?$")
_CHAIN = re.compile(r"(?<![<>!=:\\])=(?![=>])|≈|\\approx(?![A-Za-z])|=>|⇒|→|\\(?:Rightarrow|implies|to)(?![A-Za-z])")


def chain_end(text: str) -> str | None:
    """Return what follows the last equals sign of a chain of equations, such as ``29 - 17 = 12``."""
    last = last_match(_CHAIN, text)
    return text[last.end() :].strip() if last else None


_MAX_PHRASE_WORDS, _MAX_PHRASE_LENGTH = 10, 80
_NO_PHRASE = re.compile(
    r"(?:let|first|to|we|it|there|since|because|if|step|sure|i|here|this|that|these|given"
    r"|you|they|he|she|as|in order|not"
    r"|based|helpful|correct|incorrect|right|wrong|reasonable|clear|useful|found|obtained"
    r"|therefore|thus|so|simple|what"
    r"|how|why|depends|unknown|about|for|according|done|complete|provided|follows|below|above|well)\b(?!['’])",
    re.IGNORECASE,
)


def find_phrase(text: str, start: int, *, fills_line: bool) -> str | None:
    """Return the name or phrase after a mark: all of its line for a label, else the end of the text; not a sentence."""
    window = text[start : start + WINDOW]
    at = SKIPPED.match(window).end()  # type: ignore[union-attr]  # it always matches
    line, _, after = window[at:].partition("\n")
    span = close(line, window[:at])
    end = sentence_end(span)
    if span[end:].strip(" .!*_\"'`”)") or span[end : end + 1] in ("?", "？", "؟"):
        return None
    if not fills_line and after.strip(" \n*_`\"'.)"):
        return None
    phrase = span[:end].strip()
    is_short = len(phrase) <= _MAX_PHRASE_LENGTH and len(phrase.split()) <= _MAX_PHRASE_WORDS
    return phrase if phrase and is_short and not _NO_PHRASE.match(phrase) else None


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Return the last match of ``pattern`` in ``text``."""
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def split_sentences(line: str) -> list[str]:
    """Split a line into its sentences, stops included."""
    sentences, start = [], 0
    while start < len(line):
        end = sentence_end(line, start)
        stop = _STOP.match(line, end)
        end = stop.end() if stop else len(line)
        if line[start:end].strip():
            sentences.append(line[start:end].strip())
        start = max(end, start + 1)
    return sentences


_EXCLAMATION_OR_QUESTION = re.compile(r"[A-Za-z]!$|[?？؟]$")
_CODE = re.compile(r"[;`<]|=>|\w\w\(|^[#@/]|\b(?:def|return|import|select)\b", re.IGNORECASE)
_TITLE_WORD = re.compile(r"[A-Z]")
_NAME_WORD = re.compile(
    r"[^\w]*(?:[^\W\d_]*[A-Z][\w'’.]*|\d[\w.,]*|of|the|and|or|in|on|upon|for|at|to|from"
    r"|a|an|de|la|le|du|van|von|der|del|di|y|&|vs\.?)[^\w]*"
)


def short_reply(text: str) -> str | None:
    """Return the text if it is only an answer: one line of at most five words, or a longer name; no code, no JSON."""
    text = text.strip()
    if not text or len(text) > 80 or "\n" in text:
        return None
    words = text.split()
    if _EXCLAMATION_OR_QUESTION.search(text) and not (text[-1] == "!" and all(map(_TITLE_WORD.match, words))):
        return None
    if len(words) > 5 and not (len(words) <= 10 and text[-1] not in ".!" and all(map(_NAME_WORD.fullmatch, words))):
        return None
    if "\\" not in text and ("{" in text or _CODE.search(re.sub(r"; (?=[A-Z])", "", text))):
        return None
    if text[0] in "[{":
        try:
            json.loads(text)
        except ValueError:
            return text
        return None
    return text if any(map(str.isalnum, text)) else None


_JOINED_NAME = re.compile(r"[A-Z][\w'’]*[ -]$")
_NAME_AFTER = re.compile(r"[ -][A-Z][a-z]+")


_STREET = re.compile(r"\d \d{1,3}(?:st|nd|rd|th)\b")  # "25 42nd Street, 10006"


def single_value(sentence: str, solution: str = "") -> str | None:
    """Return the only value of a sentence, or that after its last equals sign, or the last that ``solution`` computes.

    A number that belongs to a name ("Apollo 11", "12 Monkeys") is not a value.
    """
    if "://" in sentence or _STREET.search(sentence):
        return None
    tail = chain_end(sentence)
    part = sentence if tail is None else tail
    places = list(scan_values(part))
    found = [place for place in places if not is_name(part, place[0], place[1])]
    if places and places[0][0] == 0 and places[0] not in found:  # "77 Elm Road, 10009" is not 10009
        return None
    keys = {value.key for _, _, value in found}
    if len(keys) == 1:
        return part[found[-1][0] : found[-1][1]]
    if tail is not None or not found:
        return None
    computed = _last_computed(solution)
    return next((part[a:b] for a, b, value in found if computed is not None and value.key == computed.key), None)


def _last_computed(text: str) -> Value | None:
    """Return the value after the last equals sign."""
    end = chain_end(text)
    first = next(scan_values(end[:60]), None) if end else None
    return first[2] if first and first[0] < 12 else None


def is_name(part: str, start: int, end: int) -> bool:
    """Return whether the number at ``start`` belongs to a name: "Apollo 11", "The film is 12 Monkeys"."""
    begins_name = (start == 0 or part[:start].endswith((" is ", " was "))) and _NAME_AFTER.match(part, end) is not None
    return begins_name or _JOINED_NAME.search(part[:start]) is not None


def breaks_off(text: str) -> bool:
    """Return whether a text ends within a formula or box, so that it states no answer at its end."""
    end = text[-WINDOW:]
    opened = any(end.rfind(opening) > end.rfind(closing) for opening, closing in ((r"\[", r"\]"), (r"\(", r"\)")))
    box = end.rfind(r"\boxed{")
    return opened or (box >= 0 and end.count("{", box) > end.count("}", box))

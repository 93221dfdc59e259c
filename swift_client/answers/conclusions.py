"""The answer of a text without a statement: its last bracketed or bold value, or that of its last sentence.

Also which part of a text answers: what a correction replaces and what follows the answer's end do not count.
"""

from __future__ import annotations

import re
from itertools import islice

from swift_client.answers.markers import Parse, spans
from swift_client.answers.marks import CORRECTIONS, FAULTS, RETRACTIONS, RUN_ON, RUN_ON_WORDS, TEMPLATE_TOKENS
from swift_client.answers.sentences import chain_end, is_name, sentence_end, single_value, split_sentences, words_of
from swift_client.answers.values.scan import scan_values

_TAIL = 1_200  # characters at the end of a text in which a conclusion is sought
_MAX_PARTS = 8  # questions of a model that runs on

# Corrections


def correction_end(text: str, words: frozenset[str] | None = None) -> tuple[int, bool] | None:
    """Return where the last correction's words end, and whether they take back all before; None without one.

    Args:
        text: the text.
        words: its words, if they are known.
    """
    hits = [
        phrase
        for word in (words_of(text) if words is None else words) & CORRECTIONS.keys()
        for phrase in CORRECTIONS[word]
    ]
    if not hits:
        return None
    lower = text.lower()
    if len(lower) != len(text):
        lower = text
    places = []
    for phrase, needs_fault in hits:
        start = _last_at_sentence_start(lower, phrase)
        if start is None:
            continue
        end = start + len(phrase)
        if needs_fault:
            sentence = text[start : start + 160]
            fault = FAULTS.search(sentence[: sentence_end(sentence, len(phrase))], len(phrase))
            if fault is None:
                continue
            end = start + fault.end()
        if text[:start].strip():
            places.append((start, end))
    if not places:
        return None
    start, end = max(places)
    return end, any(phrase in lower[start : end + 20] for phrase in RETRACTIONS)


def _last_at_sentence_start(lower: str, words: str) -> int | None:
    start = lower.rfind(words)
    for _ in range(40):
        if start < 0:
            return None
        before = lower[max(0, start - 24) : start]
        after = lower[start + len(words) : start + len(words) + 1]
        if _SENTENCE_START.search(before) and not (words[-1].isascii() and words[-1].isalpha() and after.isalnum()):
            return start
        start = lower.rfind(words, 0, start)
    return None


_SENTENCE_START = re.compile(
    r"(?:^|[.!?。！？;:—–…\n,，(]\s*|\s-\s*|(?:^|[.!?\n])\s*(?:oh|no|wait|hmm|sorry|but|however"
    r"|oops|ah|well|so|and|nein|non|nee|нет)[,.! ]*\s*)"
    r"[*_\"'>(\[\s]*$"
)
_REPLACEMENT = re.compile(
    r"(?:[:：]|\b(?:it is|it's|it should be|it should have been|should be|should have been"
    r"|should read|must be|is actually|is"
    r"|be|to|ist|lautet|es|est|è|é|was)\b|是|为|は)[\s*_\"'`]*(?P<phrase>[^\W\d_][^.!?\n,;:]{0,60})"
)


def read_correction(text: str, start: int, parse: Parse, *, phrases: bool) -> str | None:
    """Return the value that the words after a correction give; the first sentence with one value has it."""
    rest = text[start : start + _TAIL].lstrip(" ,.:;!—–-\n*_")
    for line in islice((line for line in rest.split("\n") if line.strip()), 6):
        for sentence in split_sentences(line):
            for span in islice(spans(sentence, 0), 8):
                value = parse(span) or _parse_single(span, parse)
                if value is not None:
                    return value
    phrase = _REPLACEMENT.search(text, max(0, start - 12), start + 120) if phrases else None
    return phrase["phrase"].strip(" *_\"'`") if phrase else None


def _parse_single(span: str, parse: Parse) -> str | None:
    value = single_value(span)
    return parse(value) if value is not None else None


# Texts that run on


def answering_parts(text: str, words: frozenset[str]) -> list[str]:
    """Divide a text before each new question or turn; at least one part."""
    starts = []
    if words & RUN_ON_WORDS:
        turns = (match.start() for match in RUN_ON.finditer(text) if match["word"].lower() in RUN_ON_WORDS)
        starts = list(islice(turns, _MAX_PARTS))
    starts += [place for token in TEMPLATE_TOKENS if (place := text.find(token)) >= 0]
    if "####" in text:
        starts.append(_question_after_hashes(text))
    parts, begin = [], 0
    for start in sorted(starts):
        if text[begin:start].strip():
            parts.append(text[begin:start])
            begin = start
    return [*parts, text[begin:]]


_HASHES = re.compile(r"####(?!#)[ ]?[^\n]{1,80}\n")


def _question_after_hashes(text: str) -> int:
    """Return the end of the first "#### 42" that a question follows, 0 without one."""
    first = _HASHES.search(text)
    if first is None:
        return 0
    rest = text[first.end() :]
    return first.end() if re.search(r"[?？؟]", rest) and correction_end(rest[:300]) is None else 0


# Conclusions

_BRACKETED = re.compile(r"\[\[?([^\[\]\n]{1,60})\]\]?(?!\()")
_BOLD = re.compile(r"\*\*([^*\n]{1,120})\*\*|__([^_\n]{1,120})__")
_OPERATION = re.compile(r"\d[%)\]}]*\s?(?:[=+×*/÷≈]|-\s|−|\\times|\\div|\\cdot|<<)|\\frac|=\s*\\?\$?\d|\\\[|\\\(")
_CONCLUDING = re.compile(
    r"\W*(?:so|thus|hence|therefore|then|finally|in (?:total|all|conclusion|summary)|altogether"
    r"|overall|as a result|consequently"
    r"|this means|that means|final(?:ly)?|we (?:get|find|have)|also|daher|somit|folglich"
    r"|insgesamt|deshalb|donc|ainsi|par conséquent|au total"
    r"|por (?:lo )?tanto|entonces|así|en total|logo|portanto|assim|quindi|perciò|dunque|in totale|dus|daarom|in totaal"
    r"|итак|значит|следовательно|поэтому|таким образом|всего|所以|因此|总共|一共|故|したがって|よって|だから"
    r"|따라서|그러므로|총|إذن|لذلك|więc|zatem|takže|tedy)\b",
    re.IGNORECASE,
)
_CLOSING_REMARK = re.compile(
    r"\W*(?:i hope|hope this|let me know|feel free|please|if you|is there|do you|would you"
    r"|thank|good luck|note\b|remember)",
    re.IGNORECASE,
)
_DISPLAY = re.compile(r"(?:\\\[(.+?)\\\]|\$\$(.+?)\$\$)\s*$", re.DOTALL)


def find_conclusion(text: str, parse: Parse, *, phrases: bool) -> str | None:
    """Return the last bracketed or bold value, or the value of the last sentence of a worked solution."""
    text = text.rstrip()
    tail = text[-_TAIL:]
    return _find_bracketed(tail, parse) or _find_bold(tail, parse, phrases) or _find_last_value(text, tail, parse)


def _find_bracketed(tail: str, parse: Parse) -> str | None:
    """Return the last value in brackets that begins or ends its line; numbers only alone on the line."""
    for match in reversed(list(_BRACKETED.finditer(tail)) if "[" in tail else ()):
        before = tail[tail.rfind("\n", 0, match.start()) + 1 : match.start()].strip(" *\"'")
        after = tail[match.end() : tail.find("\n", match.end()) % (len(tail) + 1)].strip(" *\"'.!,")
        if (before and after) or ((before or after) and has_digit(match[1])):
            continue
        value = parse(match[1].strip())
        if value is not None:
            return value
    return None


def has_digit(text: str) -> bool:
    """Return whether ``text`` has a digit."""
    return any(map(str.isdigit, text))


def _find_bold(tail: str, parse: Parse, phrases: bool) -> str | None:
    """Return the last bold value of the last paragraph; a label such as **Step 2:** is none."""
    lines = [line for line in tail.split("\n") if line.strip()]
    for line in reversed(lines[-2:]):
        for match in reversed(list(_BOLD.finditer(line))):
            content = (match[1] or match[2]).strip()
            if content.endswith((":", "：")) or line[match.end() : match.end() + 1] in (":", "："):
                continue
            for span in spans(content, 0):
                value = parse(span)
                if value is not None:
                    return value
            value = _parse_single(content, parse)
            if value is not None:
                return value
            is_phrase = match.start() > 0 and len(content) <= 60 and len(content.split()) <= 6
            if phrases and is_phrase and line is lines[-1]:
                return content
    return None


def _find_last_value(text: str, tail: str, parse: Parse) -> str | None:
    display = _DISPLAY.search(tail)
    if display:
        content = (display[1] or display[2]).strip()
        end = chain_end(content)
        return parse(end if end is not None else content)
    lines = [line.strip() for line in tail.split("\n") if line.strip()]
    while len(lines) > 1 and _CLOSING_REMARK.match(lines[-1]):
        lines.pop()
    if not lines:
        return None
    sentences = split_sentences(lines[-1])
    while len(sentences) > 1 and (_CLOSING_REMARK.match(sentences[-1]) or not has_digit(sentences[-1])):
        sentences.pop()
    stated = _value_of_copula(sentences[-1])
    if stated is not None:
        return parse(stated)
    is_worked = _OPERATION.search(text[-3_000:]) is not None
    sentence = sentences[-1]
    if not is_worked and not (_CONCLUDING.match(sentence) and len(text) > len(sentence) + 20):
        return None
    value = single_value(sentence, tail)
    return parse(value) if value is not None else None


_COPULA = re.compile(
    r"(?:\b(?:is|are|was|were|be|equals|ist|sind|wäre|est|sont|es|son|è|é|são|wordt)|是|为|為)[ ]?$", re.IGNORECASE
)
_CLAUSE = re.compile(
    r",?\s(?:then|so|therefore|thus|hence|dann|also|donc|alors|entonces|quindi|então|dus)\s|;\s", re.IGNORECASE
)


def _value_of_copula(sentence: str) -> str | None:
    """Return the value of "then tomorrow is 6/19/2019.", if its last clause says of one thing what it is."""
    clause = _CLAUSE.split(sentence)[-1]
    said = [(start, end) for start, end, _ in scan_values(clause) if _COPULA.search(clause[:start])]
    if len(said) != 1 or len(clause[said[0][1] :].split()) > 2 or is_name(clause, *said[0]):
        return None
    return clause[slice(*said[0])]

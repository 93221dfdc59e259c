r"""Statements of the answer in a completion, and the spans that may be its value.

The order of the evidence:

1. The part of the text that answers: what follows the answer's end, such as the next question of a model that runs on,
   does not count; a correction ("Wait, that is wrong: it is 15") beats what was stated before it (``conclusions.py``).
2. Statements: ``\boxed{...}``, ``<answer>``, ``#### 18``, ``"answer": 18`` and marks such as "the answer is"
   (``marks.py``). A later one beats an earlier one, but a mark that no whole value follows is none:
   "Answer: First, she buys 3 eggs."
3. Without a statement: a short reply, a bracketed verdict (``[No]``), the last bold value, and the value of the last
   sentence of a worked solution (``conclusions.py``).

A value is never cut: a reader is offered spans from the whole line down to the sentence and to the clause before
"because", and takes the first that is one whole value of a kind that it knows. All of it takes linear time.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from swift_client.answers.marks import NOUNS, Language
from swift_client.answers.sentences import (
    SKIPPED,
    WINDOW,
    chain_end,
    close,
    find_phrase,
    sentence_end,
    single_value,
    words_of,
)
from swift_client.answers.values import parse_value, read_value
from swift_client.answers.values.scan import scan_values

# Returns the answer if the whole span is one value of the kinds that a reader knows, else None.
Parse = Callable[[str], str | None]

_MAX_STATEMENTS = 16  # statements that are tried, from the end
_MAX_HITS = 40  # places of one noun that are looked at, from the end
_MAX_TAG_LENGTH = 2_000
_NEAR_END = 300  # characters; a loose noun with a verb counts only there


@dataclass(frozen=True, slots=True)
class Statement:
    """A place where an answer is stated."""

    start: int  # index of the mark
    value_start: int
    value_end: int | None = None  # of a box or tag; else the value ends with its line, sentence or clause
    label: bool = False  # whether it begins its line, such as "Answer:"


def find_marked_answer(text: str) -> str | None:
    """Return the last stated answer as written: a value of a known kind, or a name or phrase; None without one."""
    return find_statement(text, parse_typed, phrases=True)


_MAX_TYPED_LENGTH = 160  # characters; a longer span is prose


def parse_typed(span: str) -> str | None:
    """Return ``span``, or the end of its chain of equations, if that is one typed value."""
    if _PLAIN.fullmatch(span):
        return span
    if "://" in span:
        return None
    if len(span) > 40 and not (len(span) <= _MAX_TYPED_LENGTH and _DIGIT_OR_COMMAND.search(span)):
        tail = chain_end(span)
        return tail if tail and len(tail) <= 40 and parse_value(tail) is not None else None
    if _is_typed(span):
        return span
    tail = chain_end(span)
    return tail if tail and _is_typed(tail) else None


def _is_typed(span: str) -> bool:
    value = parse_value(span)
    return value is not None and not (value.kind == "formula" and _SHORT_WORD.search(span))


_SHORT_WORD = re.compile(
    r"(?<![\\A-Za-z{])(?:it|is|he|we|so|in|at|to|of|on|an|be|am|my|us|by|as)(?![A-Za-z])", re.IGNORECASE
)
_PLAIN = re.compile(r"[$€£]?\d{1,15}(?:\.\d{1,15})?\.?", re.ASCII)
_DIGIT_OR_COMMAND = re.compile(r"[\d\\½¼¾]")


def find_statement(
    text: str, parse: Parse, *, phrases: bool = False, words: frozenset[str] | None = None
) -> str | None:
    """Return the value of the last statement that has one.

    Args:
        text: the part of a completion that answers.
        parse: the reader's parser of spans.
        phrases: accept a name or phrase where no span is a typed value.
        words: the words of the text, or of a longer one, if they are known.
    """
    boxes = find_boxes(text)
    statements = sorted(
        _find_statements(text, words_of(text) if words is None else words, boxes),
        key=lambda statement: -statement.start,
    )[:_MAX_STATEMENTS]
    for statement in statements:
        if statement.value_end is not None:
            value = _read_content(text, statement, boxes, parse, phrases)
            if value is not None:
                return value
            continue
        for span in spans(text, statement.value_start):
            value = parse(span)
            if value is not None:
                return value
        value = _read_sentence(text, statement.value_start, parse)
        if value is not None:
            return value
        # A box beats the prose that follows it: "\\boxed{2} ... so the answer is unique."
        may_be_phrase = phrases and not (boxes and boxes[0][0] < statement.start)
        phrase = find_phrase(text, statement.value_start, fills_line=statement.label) if may_be_phrase else None
        if phrase is not None:
            return phrase
    return None


def _read_sentence(text: str, start: int, parse: Parse) -> str | None:
    """Return the only value of the sentence after a mark, if it ends the text: "Each nephew gets 16 cookies."."""
    rest = text[start : start + WINDOW + 1].lstrip(" :*_\n")
    sentence = rest[: sentence_end(rest)].split("\n", 1)[0]
    if len(rest) > WINDOW or _DIGIT_OR_COMMAND.search(rest[len(sentence) :]):
        return None
    value = single_value(sentence) if _DIGIT_OR_COMMAND.search(sentence) else None
    return parse(value) if value is not None else None


def _read_content(
    text: str, statement: Statement, boxes: list[tuple[int, int]], parse: Parse, phrases: bool
) -> str | None:
    """Read the content of a box or tag; the values of neighbouring boxes are one answer."""
    content = text[statement.value_start : statement.value_end].strip()
    if (statement.value_start, statement.value_end) in boxes:
        content = join_boxes(text, boxes) or content
        return parse(content) or (content if phrases else None)
    if len(content) > WINDOW or "\n" in content or "\\boxed" in content:
        return find_statement(content, parse, phrases=phrases)
    for span in spans(content, 0):
        value = parse(span)
        if value is not None:
            return value
    return content if phrases and content else None


# The places

_OTHER_MARKS = re.compile(
    r"""
      (?P<hashes>\#{4}(?!\#)[ ]?)                                                    # GSM8K's references: "#### 18"
    | (?P<letter>^[ \t*_>]{0,4}[AR][*_]{0,2}[ ]?[:：][*_]{0,2})                       # "A: 18", "R : 18"
    | (?P<key>["'](?:final_?|correct_?)?(?:answer|ans|result|antwort|réponse|respuesta|答案)["']\s?:\s?)
      (?P<member>"(?:[^"\\\n]|\\.){0,400}"|'[^'\n]{0,400}'|[^,}\]\n"']{1,400})
    | <(?P<tag>(?i:(?:final[_ -]?)?(?:answer|ans|result)|antwort|réponse|respuesta|答案))>
    | \[(?P<tag2>(?i:(?:final[_ ]?)?answer))\]
    | \b(?P<call>(?:[Ff]inish|[Ff]inal_answer)[\[(])(?P<argument>[^\])\n]{1,200})[\])]
    """,
    re.VERBOSE | re.MULTILINE,
)
# A text without these has none of the other marks.
_OTHER_SIGNS = (
    *("####", ">", "swer]", "SWER]", "inish", "nal_answer", '":', "':"),
    *("A:", "R:", "*:", "_:", " :", "："),
)


def _find_statements(text: str, words: frozenset[str], boxes: list[tuple[int, int]]) -> Iterator[Statement]:
    """Find the places where an answer is stated, in no order."""
    yield from _find_word_marks(text, words)
    if boxes:
        yield Statement(boxes[-1][0], *boxes[-1], label=True)
    if any(sign in text for sign in _OTHER_SIGNS):
        for mark in deque(_OTHER_MARKS.finditer(text), maxlen=_MAX_HITS):
            start = mark.end()
            end: int | None = None
            if mark["tag"] or mark["tag2"]:
                close = text.find("</" if mark["tag"] else "[/", start, start + _MAX_TAG_LENGTH)
                end = close if close >= 0 else min(len(text), start + _MAX_TAG_LENGTH)
            elif mark["call"]:
                start, end = mark.span("argument")
            elif mark["key"]:
                is_quoted = mark["member"][0] in "\"'"
                start, end = mark.start("member") + is_quoted, mark.end("member") - is_quoted
            yield Statement(mark.start(), start, end, label=True)


def _find_word_marks(text: str, words: frozenset[str]) -> Iterator[Statement]:
    nouns = [noun for word in words & NOUNS.keys() for noun in NOUNS[word]]
    if not nouns:
        return
    lower = text.lower()
    if len(lower) != len(text):  # some capital letters become two characters
        lower = text
    for noun, is_firm, language in nouns:
        start = lower.rfind(noun)
        for _ in range(_MAX_HITS):
            if start < 0:
                break
            statement = _read_mark(text, lower, start, start + len(noun), is_firm, language)
            if statement:
                yield statement
            start = lower.rfind(noun, 0, start)


_COLON = re.compile(
    r"(?:[ ][^\W\d][^.!?。\n:：=＝\d]{0,40})?[ \t]?(?:\([^()\n]{1,40}\))?"
    r"[*_`\"'”»】\])]{0,4}[ \t\u00a0\u202f]{0,2}(?:[:：＝=]|->|→|⇒|=>)"
)
_HEADING = re.compile(r"(?:[ ][^\W\d_]{2,15}){0,2}[*_ \t:：】\])]{0,6}\r?\n")
_DOT = re.compile(r"\.[ \t]{0,3}(?=[\w$\\-])")  # "Ans. 42"
# A verb ("can answer") or an answer of somebody in the question ("Billy's answer", "long-answer questions").
_NO_NOUN_BEFORE = re.compile(
    r"(?:\b(?:can|to|could|cannot|can't|will|must|should|please|i|we|you|they|(?:check|verify|confirm|test)(?:ing)?"
    r" (?:our|my|this|that|the))|['’]s|-)[ ]?$"
)
_DECORATION = r"[ \t*_`>#\-•–—\"'“”«»【\[(]"


def _read_mark(text: str, lower: str, start: int, end: int, firm: bool, language: Language) -> Statement | None:
    """Return the statement that the noun at ``start`` makes, if a colon, heading or verb follows it."""
    if language.spaced and (lower[start - 1 : start].isalnum() or lower[end : end + 1].isalnum()):
        return None
    if text[end : end + 1] in ("'", '"') and text[start - 1 : start] in (text[end], "_"):  # a key of JSON
        return None
    if lower.startswith(" choice", end) and "correct" not in lower[max(0, start - 12) : start]:
        return None  # "Let us go through each answer choice: (A) ..."
    line_start = max(text.rfind("\n", max(0, start - 80), start) + 1, start - 80, 0)
    before = lower[line_start:start]
    label = False
    if line_start == 0 or text[line_start - 1] == "\n":
        gap = "[ ,*_]{1,4}" if language.spaced else "[ ]?"
        words = rf"(?:(?:{language.lead}){gap}){{0,5}}[*_]{{0,4}}"
        lead = rf"{_DECORATION}{{0,10}}(?:\d{{1,2}}[.)] ?)?{_DECORATION}{{0,4}}{words}"
        label = not before.strip() or re.fullmatch(lead, before) is not None
    if not label and _NO_NOUN_BEFORE.search(before):
        return None
    if label or firm:
        colon = _COLON.match(text, end) or (_DOT.match(text, end) if label and lower[start:end] == "ans" else None)
        if colon:
            return Statement(start, colon.end(), label=label)
    heading = _HEADING.match(text, end) if label else None
    if heading:
        return Statement(start, heading.end(), label=True)
    if not firm and len(text) - end > _NEAR_END:
        return None
    if language.spaced:
        pattern = (
            rf"(?:[ ][^.!?。\n:：=]{{0,60}}?)??[*_]{{0,2}}[ ]+[*_]{{0,2}}(?:{language.verbs})(?!\w)[ ]{{0,2}}[:：]?"
        )
    else:
        pattern = rf"[^。！？.!?\n:：=]{{0,14}}?(?:{language.verbs})[ ]?[:：]?"
    verb = re.compile(pattern, re.IGNORECASE).match(text, end)
    return Statement(start, verb.end()) if verb else None


# Boxes

_BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}\\]|[{}]")
_BARE_BOX = re.compile(r"\\(?:boxed|fbox) ?(\d+|[A-Za-z])(?![\w{])")
# Text between boxes that hold the values of one answer: "\boxed{3}$ and $\boxed{5}", ", y = ", "(b)".
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$,;.&]|\\[()\[\],;]|\\q?quad|\\text\{[^{}]{0,12}\}|\b(?:and|or|und|oder|et|ou|y|o|e|en|и|или)\b|和|或|と"
    r"|\([a-h]\)|\b[a-z](?:_\{?\w\}?)? ?=){0,12}"
)
_MAX_BOXES = 12  # values of one answer


def find_boxed(text: str) -> str | None:
    r"""Return the content of the last complete ``\boxed{...}`` or ``\fbox{...}``, braces matched; None without one.

    Several boxes of one list, such as ``\boxed{3}, \boxed{5}``, are one answer: "3, 5".
    """
    return join_boxes(text, find_boxes(text))


def join_boxes(text: str, boxes: list[tuple[int, int]]) -> str | None:
    """Return the content of the last box after those before it that belong to the same list."""
    if not boxes:
        return None
    values = [text[slice(*boxes[-1])].strip()]
    for before, after in zip(reversed(boxes[:-1]), reversed(boxes), strict=False):
        gap_end = max(text.rfind("\\boxed", before[1], after[0]), text.rfind("\\fbox", before[1], after[0]))
        gap = text[before[1] + 1 : gap_end]
        if len(gap) > 60 or len(values) >= _MAX_BOXES or not _BETWEEN_BOXES.fullmatch(gap):
            break
        values.insert(0, text[slice(*before)].strip())
    if len(values) == 1:
        return values[0]
    by_key = {read_value(value).key: value for value in values}  # the same value in two forms is one
    return ", ".join(by_key.values())


def find_boxes(text: str) -> list[tuple[int, int]]:
    """Return the positions of the contents of all complete boxes that are not empty and hold no other box."""
    start = min((index for index in (text.find("\\boxed"), text.find("\\fbox")) if index >= 0), default=-1)
    if start < 0:
        return []
    boxes: list[tuple[int, int]] = []
    starts: list[int] = []  # per open brace: start of the box's content, -1 if it does not open a box
    for token in _BOX_TOKEN.finditer(text, start):
        mark = token[0]
        if mark == "}":
            content = starts.pop() if starts else -1
            is_inner = not boxes or content > boxes[-1][0]
            if content >= 0 and is_inner and text[content : token.start()].strip():
                boxes.append((content, token.start()))
        elif mark.endswith("{"):
            if mark == "{":
                starts.append(-1)
            elif len(mark) > 2:
                starts.append(token.end())
    return boxes or [match.span(1) for match in _BARE_BOX.finditer(text, start)]


# Spans

_MATH = re.compile(r"\$\$(.+?)\$\$|\\\((.+?)\\\)|\\\[(.+?)\\\]|\$((?:[^$\n\\]|\\.)+)\$", re.DOTALL)
_WRAPPED = re.compile(r"\*\*(.+?)\*\*|\"(.+?)\"|“(.+?)”|„(.+?)[“”]|«\s?(.+?)\s?»|`([^`]+)`|\[+([^\[\]]+)\]+|【(.+?)】")
# Commentary after a value; a value is not cut where it begins.
_COMMENT = re.compile(
    r"\s*[,;]?\s(?:because|since|as|which|where|so|while|but|instead of|rather than|assuming|given that|if|when|due to"
    r"|with|weil|denn|da|parce que|car|puisque|porque|ya que|pues|perché|poiché|omdat|want|pois|já que"
    r"|потому что|так как|поскольку|ponieważ|protože|çünkü|karena|fordi|eftersom)\b"
    r"|,? (?:and )?not\b|[;；]| [-–—]{1,2} |—|\s*[(（](?=[^()]{0,80}[^\W\d]{2})(?![A-J][)）])"
    r"|[,，]\s*(?:因为|因為|所以|なぜなら|왜냐하면)|[,，] (?=[^\d]*$)",
    re.IGNORECASE,
)


def spans(text: str, start: int) -> Iterator[str]:
    """Offer the spans that may be the value at ``start``, from the whole line to the clause."""
    window = text[start : start + WINDOW]
    at = SKIPPED.match(window).end()  # type: ignore[union-attr]  # it always matches
    opened = window[:at]
    math = _MATH.match(window, at)
    if math and "\n" in math[0]:
        yield next(filter(None, math.groups()))
        return
    line = window[at:].split("\n", 1)[0].rstrip()
    yield close(line, opened)
    sentence = line[: sentence_end(line)]
    yield close(sentence, opened)
    if math and not has_value(line[math.end() - at : len(sentence)]):
        yield next(filter(None, math.groups()))
    if opened[-1:].strip() and opened[-1] in line:  # **11** left; "[Yes]", 17 is
        inner, rest = line.split(opened[-1], 1)
        if not has_value(rest[: sentence_end(rest)]):
            yield inner
    wrapped = _WRAPPED.match(line)
    if wrapped and not has_value(line[wrapped.end() : len(sentence)]):
        yield next(filter(None, wrapped.groups()))
    for cut in _COMMENT.finditer(sentence):
        yield close(sentence[: cut.start()], opened)


def has_value(text: str) -> bool:
    """Return whether a number, date or other typed value stands in ``text``."""
    return next(scan_values(text), None) is not None

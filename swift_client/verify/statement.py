"""The option that a judge's reply states, and its place in the text."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from swift_client.verify.prompts import VerdictRequest

_MAX_LENGTH = 2000  # characters of a reply, or of a tag's content, that are searched

# Characters around an option that change nothing: spaces, quotes, markdown, punctuation, signs of SentencePiece.
DECORATION = r"""\s"'`*_#<>\[\](){}.,:;!…“”„‘’«»「」▁\-"""
_NOUNS = "answer|verdict|judge?ment|rating|score|grade|letter|choice"
_LABEL = rf"(?:(?:my|the)\s+)?(?:final\s+)?(?:{_NOUNS})(?:\s+is\b)?"
_LEAD = rf"[{DECORATION}]*+(?:{_LABEL}[{DECORATION}]*+)?"
_WORD_START, _WORD_END = r"(?<![^\W_])", r"(?![^\W_])"
_END = r"(?:\s*\Z|[ \t]*\n|(?!['’])[^\w\s])"
_JOIN = r"[*_`]*\s*(?:[,/|&]|\bor\b|\band\b)\s*[*_`]*"  # between the options of "A or B"
_QUOTATION = re.compile(r"""```.*?```|`[^`\n]*`|"[^"\n]*"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»|「[^」\n]*」""", re.DOTALL)
# "A good answer" and "I think" name no letter; "A or B" does.
_NOT_A_WORD = r"(?!['’])(?![ ](?!(?:or|and)\b)[a-z])"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """An option that a text states: its index, and the span of characters that spells it."""

    option: int
    start: int
    stop: int


def find_statement(text: str, request: VerdictRequest) -> Statement | str | None:
    """Find the option that a text states; None if there is none, a sentence if there are several.

    With ``request.reasons`` only the content of the last verdict tag is read.
    """
    text = text.replace("Ġ", " ")
    if not request.reasons:
        return _find_option(text[:_MAX_LENGTH], request)
    # The last tag that has content: a judge may close with a second opening tag.
    for match in reversed(list(re.finditer(rf"<\s*{re.escape(request.tag)}\s*>([^<]*)", text))):
        if match[1].strip():
            stated = _find_option(match[1][:_MAX_LENGTH], request)
            if not isinstance(stated, Statement):
                return stated
            shift = match.start(1)
            return Statement(option=stated.option, start=stated.start + shift, stop=stated.stop + shift)
    return None


def _find_option(text: str, request: VerdictRequest) -> Statement | str | None:
    options = "|".join(map(re.escape, sorted(request.options, key=len, reverse=True)))
    is_letter = all(len(option) == 1 for option in request.options)
    indices = {option.casefold(): index for index, option in enumerate(request.options)}
    text = _blank_quotations(text, indices)

    def statement(match: re.Match[str], group: str | int) -> Statement:
        start, stop = match.span(group)
        return Statement(option=indices[match[group].casefold()], start=start, stop=stop)

    # The first word, in any case, with decoration or an end of line after it; a letter in lower case only alone.
    lead = re.match(rf"{_LEAD}{_WORD_START}(?P<option>{options}){_WORD_END}{_END}", text, re.IGNORECASE)
    if lead and not re.match(rf"{_JOIN}(?:{options}){_WORD_END}", text[lead.end("option") :]):
        is_alone = re.fullmatch(rf"[{DECORATION}/]*", text[lead.end("option") :])
        if is_alone or not (is_letter and lead["option"].islower()):
            return statement(lead, "option")
    # Words anywhere, as the prompt has them or in capitals; "no" in lower case is a common word.
    capitals = "|".join(re.escape(option.upper()) for option in request.options)
    pattern = rf"{_WORD_START}(?:{options}|{capitals}){_WORD_END}{_NOT_A_WORD if is_letter else ''}"
    statements = [statement(match, 0) for match in re.finditer(pattern, text)]
    if len({stated.option for stated in statements}) > 1:
        return "The judge's reply names several options."
    return statements[0] if statements else None


def _blank_quotations(text: str, options: Collection[str]) -> str:
    """Replace each quotation by spaces, unless it is an option: a judge may quote the answer that it judges."""

    def blank(match: re.Match[str]) -> str:
        is_option = re.sub(rf"[{DECORATION}]+", "", match[0]).casefold() in options
        return match[0] if is_option else re.sub(r"[^\n]", " ", match[0])

    return _QUOTATION.sub(blank, text)

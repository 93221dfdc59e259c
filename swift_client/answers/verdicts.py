"""Option letters and yes/no: which one a span names, and where a completion gives its verdict.

Several letters ("A, C") are one answer of several letters, never the first of them.
"""

from __future__ import annotations

import re

from swift_client.answers.conclusions import correction_end
from swift_client.answers.markers import find_statement
from swift_client.answers.sentences import last_match, sentence_end, split_sentences

_TAIL = 50_000  # characters at the end of a text that are searched

# Option letters

_FULL_WIDTH = {ord("Ａ") + index: chr(ord("A") + index) for index in range(26)}
_FULL_WIDTH |= {ord("ａ") + index: chr(ord("a") + index) for index in range(26)}
_FULL_WIDTH |= {ord(a): b for a, b in zip("（）．，：；С", "().,:;C", strict=True)}
_SCRIPTS = "А-ЕЖ-К" + "أبجدهو" + "ア-オ" + "가나다라마"
_LETTER = rf"[A-Ja-j{_SCRIPTS}]"
_TEXT_COMMAND = re.compile(r"\\(?:textbf|textit|textrm|text|mathrm|mathbf|rm|bf)\s*\{?|[{}$]|\\[()\[\]]")
_NAMED = (
    r"(?:(?:the\s)?(?:correct\s|right\s|best\s)?(?:option|choice|answer|letter|antwort"
    r"|opción|opção|opzione|optie|réponse|вариант|选项|選項|選択肢|보기)s?[\s:#]{0,3})"
)
_SEVERAL = re.compile(
    rf"\W{{0,6}}{_NAMED}?(\(?[A-J]\)?(?:(?:\s?[,;/&+、，]\s?|\s?,?\s?\b(?:and|or|und|et|y"
    rf"|e|en|и)\b\s?|和|と)(?:(?i:option|choice)\s)?\(?[A-J]\)?(?!\w))+)"
    r"(?:\W{0,6}|\s(?:are|is|sind|sont|son|sono)\b.*)",
    re.DOTALL,
)
_JOINED = re.compile(r"\W{0,4}([A-J]{2,6})\W{0,4}")
_BRACKETED = re.compile(rf"\W{{0,6}}{_NAMED}?[(\[（]({_LETTER})[)\]）](?!\w).*", re.DOTALL | re.IGNORECASE)
_PLAIN = re.compile(
    rf"\W{{0,6}}{_NAMED}?([A-J{_SCRIPTS}])(?:[).:：、．]\W*.*|[,;!]\s?(?!\s?[A-J]\b).*|\W{{0,6}}"
    rf"|[。，].*|\s?(?:です|입니다|이다|번|項|项|选项).*|\s(?:is|ist|est|es|è|because|since|as|weil|car|porque|[-–—])\s.*|\s[(（].*)",
    re.DOTALL,
)
_NAMED_LETTER = re.compile(
    rf"\W{{0,6}}{_NAMED}({_LETTER})(?!\w)(?:[^\w\s'’&+=-].*|\s(?:is|ist|est|es|è|because|since|as)\b.*|\s*)",
    re.DOTALL | re.IGNORECASE,
)
_BARE = re.compile(rf"\W{{0,3}}({_LETTER})\W{{0,3}}")
_LOWER = re.compile(r"\W{0,3}([a-j])[).:]\s.*|\W{0,3}([a-j])\W{0,3}", re.DOTALL)


_ARTICLE = re.compile(r"^(?:the|la|le|el|il|die|der|das|het)\s+(?=\W{0,3}[A-J]\b)", re.IGNORECASE)


def parse_choice(span: str) -> str | None:
    """Return the option letter that ``span`` names, or several as "A, C"; None for other words."""
    span = _TEXT_COMMAND.sub("", span.translate(_FULL_WIDTH)).strip().replace("**", "")
    span = _ARTICLE.sub("", span, count=1)
    several = _SEVERAL.fullmatch(span)
    if several:
        letters = sorted(set(re.findall(r"\b[A-J]\b", several[1])))
        return ", ".join(letters)
    for pattern in (_BRACKETED, _PLAIN, _NAMED_LETTER, _BARE, _LOWER):
        match = pattern.fullmatch(span)
        if match:
            return str(next(filter(None, match.groups()))).upper()
    joined = _JOINED.fullmatch(span)
    return ", ".join(sorted(set(joined[1]))) if joined and list(joined[1]) == sorted(set(joined[1])) else None


_MENTION = re.compile(
    rf"(?:(?:\b(?i:option|choice|answer|ans|opción|opção|opzione|optie|variante|вариант)|选项|選項|選択肢"
    rf"|보기)\W{{0,4}}({_LETTER})(?!\w)(?!\s[A-Za-z])|\(([A-J])\)"
    rf"|\b([B-HJ]|A(?= is)) is (?:the )?(?:\w+ )?(?:answer|correct|right|choice|option)\b"
    r"|\b(?i:choose|pick|select|chose|go with|going with|opt for|wähle|nehme|choisis|elijo"
    r"|escojo|escolho|scelgo|kies|выбираю)(?: (?i:option|answer|choice|antwort|la|the|letter))*\W{1,4}"
    r"([A-J])(?!\w)(?!\s[a-z])"
    r"|(?:选择|選擇|我选|我選|应选|故选|選ぶ|选)[ ：:]?([A-J])(?!\w))"
)


def find_choice(text: str) -> str | None:
    """Return the marked letter A-J, else one that begins the last or first line, else the last "(B)" or "option B"."""
    text = text[-_TAIL:]
    correction = correction_end(text)
    if correction:
        rest = text[correction[0] :]
        value = find_statement(rest, parse_choice) or _named_letter(rest) or _leading_letter(rest)
        if value is not None:
            return value
    return find_statement(text, parse_choice) or _leading_letter(text) or _named_letter(text)


def _leading_letter(text: str) -> str | None:
    lines = text.strip(" \n,:").splitlines()
    for line in (*lines[-1:], *lines[:1]):
        for span in (line, line[: sentence_end(line)]):
            value = parse_choice(span)
            if value is not None and not (span[:2] in ("A ", "I ") or re.match(r"\W*[a-j][.:]?\s\w", span)):
                return value
    return None


def _named_letter(text: str) -> str | None:
    match = last_match(_MENTION, text)
    return str(next(filter(None, match.groups()))).upper() if match else None


# Yes and no

_YES = (
    "yes|yeah|yep|yup|yea|aye|true|ja|jawohl|wahr|richtig|oui|vrai|sí|si|sì|verdadero"
    "|cierto|sim|verdadeiro|vero|да|верно|правда|истина|так|tak|prawda"
    "|ano|evet|doğru|doğrudur|igen|igaz|da|ναι|αληθές|כן|نعم|صحيح|أجل|بله|हाँ|हां|सही"
    "|ใช่|vâng|có|đúng|ya|benar|waar|sant|sandt|kyllä|tosi|joo|pravda"
    "|是|是的|对|對|正确|正確|真|はい|正しい|예|네|참|그렇다|맞습니다|correct|affirmative|certainly|absolutely|definitely|indeed"
)
_NO = (
    "no|nope|nah|nay|false|nein|falsch|unwahr|non|faux|fausse|falso|falsa|não|нет|неверно"
    "|ложь|неправда|nie|fałsz|ne|nepravda|hayır|yanlış|yanlıştır|nem|hamis"
    "|nu|όχι|ψευδές|לא|لا|خطأ|خاطئ|كلا|نه|नहीं|गलत|ไม่|ไม่ใช่|không|sai|tidak|salah|nee"
    "|onwaar|niet waar|nej|falskt|falsk|usant|ei|epätosi|否|不|不是|不对|不對|错|错误|錯誤|假|いいえ|違う"
    "|誤り|間違い|아니요|아니오|아니다|거짓|틀렸습니다"
    "|incorrect|negative|untrue|not true|absolutely not|definitely not|certainly not|of course not|not really"
)
_WORD = rf"(?P<no>{_NO})|(?P<yes>{_YES})"
_END = (
    r"(?=$|[\s]*$|[,.;:!?。，、！…\]\)}\"'”*_]|\s[-–—(]|\s?[—–]|\s(?:it|he|she|they|this|that"
    r"|there|we|you|i|the|because|since|as|weil|denn|car|porque|because)\b)"
)
_VERDICT = re.compile(
    rf"[\s\W]{{0,8}}(?:so|therefore|thus|hence|then|well|also|donc|daher|por tanto)?[,\s\W]{{0,4}}(?:{_WORD}){_END}",
    re.IGNORECASE,
)
_OPTIONS = re.compile(
    rf"\W{{0,6}}\b(?:{_YES}|{_NO})\s?(?:/|\||,|or|oder|ou|o|of|или|eller|lub|nebo|还是|或|または"
    rf"|か)\s?(?:{_NO}|{_YES})\s?[)\]]?\s?[?？:：.\n]+",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"\b(?:statement|claim|assertion|proposition|hypothesis|sentence|conclusion|premise"
    r"|answer|it|this|that|which|aussage|behauptung|antwort|affirmation|énoncé|proposition"
    r"|réponse"
    r"|afirmación|enunciado|respuesta|afirmação|resposta|affermazione|risposta|stelling"
    r"|bewering|утверждение|ответ)\b(?: (?:above|given|made|itself|about [^.!?]{1,40}|that [^.!?]{1,60}))?"
    r" (?:is|was|are|must be|would be|should be|ist|wäre|est|es|é|è|является|-|—)"
    r" ?(?P<not>(?:therefore |thus |clearly |indeed |definitely |actually |hence |also )*(?:not"
    r"|n't|nicht|pas|never)\s)?(?:therefore |thus |clearly |indeed |definitely |actually "
    r"|hence |also |in fact |logically )*"
    r"(?:(?P<yes>true|correct|right|valid|accurate|wahr|richtig|korrekt|vraie?|correcte?"
    r"|exacte?|verdader[oa]|correct[oa]|verdadeir[oa]|ver[oa]|corrett[oa]|juist|waar|верно"
    r"|истинно|правильное?|верным)"
    r"|(?P<no>false|incorrect|wrong|untrue|invalid|inaccurate|falsch|unwahr|inkorrekt|faux"
    r"|fausse|incorrecte?|fals[oa]|incorrect[oa]|sbagliat[oa]|errad[oa]|onjuist|onwaar"
    r"|неверно|ложно|неправильное?|ложным|неверным))\b"
    r"|(?:说法|陈述|命题|論述|陳述|文|主張|答案)(?:是|は)(?:(?P<no2>错误|錯誤|假|不正确|不正確|不对|誤り|間違い|偽|正しくない)|(?P<yes2>正确|正確|真|对|對|正しい))",
    re.IGNORECASE,
)


# '[Yes] if 91 is prime or "[No]" if it is not'
_CONDITION = re.compile(r"[\]\"'”)*]{0,4} (?:if|when)\b[^.!?\n]{0,200}?\b(?:or|otherwise|and|else)\b", re.IGNORECASE)


def parse_yes_no(span: str) -> str | None:
    """Return yes or no if ``span`` begins with that verdict; None for words such as "No Country for Old Men"."""
    span = _TEXT_COMMAND.sub("", span).replace("**", "")
    options = _OPTIONS.match(span)
    if options:
        span = span[options.end() :]
    match = _VERDICT.match(span)
    if match and not _CONDITION.match(span, match.end()):
        return "no" if match["no"] else "yes"
    return None


def _parse_stated(span: str) -> str | None:
    match = last_match(_STATED, span)
    if match is None:
        return None
    is_no = bool(match["no"] or match["no2"])
    return "no" if is_no != bool(match["not"]) else "yes"


_SQUARE = re.compile(
    rf"\[\[?[\s\"']*(?:{_WORD})[\s.\"']*\]?\](?![\"'”]?\s?(?:or|/|if|oder|wenn|ou|si)\b)", re.IGNORECASE
)


def find_yes_no(text: str) -> str | None:
    """Return yes or no (or true, false): the marked or bracketed verdict, else that of the last or first sentence."""
    text = text[-_TAIL:]
    correction = correction_end(text)
    if correction:
        rest = text[correction[0] :]
        value = find_statement(rest, parse_yes_no) or _square_verdict(rest) or _sentence_verdict(rest)
        if value is not None:
            return value
    return find_statement(text, parse_yes_no) or _square_verdict(text) or _sentence_verdict(text)


def _square_verdict(text: str) -> str | None:
    if "[" not in text:
        return None
    match = last_match(_SQUARE, text)
    return None if match is None else "no" if match["no"] else "yes"


def _sentence_verdict(text: str) -> str | None:
    text = text.strip()
    options = _OPTIONS.match(text)
    if options:
        text = text[options.end() :]
    last_line = text.rsplit("\n", 1)[-1]
    last = (split_sentences(last_line) or [""])[-1]
    is_verdict_alone = len(last) <= 24
    for part in (last if is_verdict_alone else "", text, last_line, last, re.split(r"[:,] ", last)[-1]):
        value = parse_yes_no(part[:400]) if part else None
        if value is not None:
            return value
    return _parse_stated(last_line) or _parse_stated(text[:300])

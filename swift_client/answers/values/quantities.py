"""Written numbers with a sign, currency, scale, percent sign or unit: ``-$1,100``, ``1.5 × 10⁸``, ``2½ miles``.

Units and currencies are dropped, not converted: ``50%`` is 50, ``25 cm^2`` is 25 and ``5 dozen`` is 5, since the
question determines the unit and models often leave it out. Scales multiply: ``$5 million`` is 5,000,000.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from swift_client.answers.numbers import format_number, parse_number, read_decimal, shorten_decimal
from swift_client.answers.values.value import Value, split_words

SCALES = {
    name: factor
    for factor, names in (
        (10**2, "hundred hundreds"),
        (10**3, "thousand thousands tausend"),
        (10**4, "万 萬"),
        (10**5, "lakh lakhs lac lacs"),
        (10**6, "million millions mio mln mn millionen millones milhão milhões milione milioni миллион миллиона"),
        (10**7, "crore crores"),
        (10**8, "億 亿"),
        (10**9, "billion billions bn milliarde milliarden milliard milliards mrd"),
        (10**12, "trillion trillions tn"),
        (10**15, "quadrillion"),
    )
    for name in names.split()
}
SCALE_PATTERN = "|".join(sorted(SCALES, key=len, reverse=True))
_MONEY_SUFFIXES = {"k": 10**3, "m": 10**6, "mm": 10**6, "b": 10**9, "t": 10**12}

CURRENCY_PATTERN = (
    r"(?:us|au|ca|hk|nz|nt|mx|sg|a|c|s|r)?[$¤]|[€£¥₹₩₽₺₫฿₦₱₪₴¢]"
    r"|(?:usd|eur|gbp|inr|jpy|cny|rmb|chf|cad|aud|nzd|sek|nok|dkk|pln|brl|mxn|krw|us|rs\.?|euro)(?![^\W\d_])"
)
_DECIMAL = r"(?:\d{1,3}(?: \d{3})+(?![\d/])(?:[.,]\d+)?|\d+(?:[,.'_]\d+)*|\.\d+)"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?) ?(?:(?P<currency>{CURRENCY_PATTERN}) ?)?(?P<sign_after>[+-]?)"
    rf"(?:(?P<whole>{_DECIMAL}) (?:and |& )?(?P<part>\d+ ?/ ?\d+)(?![\d/.])"
    rf"|(?P<power>10 ?(?:\^|\*\*) ?[{{(]?[+-]?\d{{1,9}}[}})]?)"
    rf"|(?P<number>{_DECIMAL})\.?"
    rf"(?: ?/ ?(?P<denominator>{_DECIMAL})(?![\d/])|(?: ?[*x] ?10 ?(?:\^|\*\*) ?|(?P<e>e))"
    rf"[{{(]?(?P<exponent>[+-]?\d{{1,9}})(?!\d)[}})]?)?)"
)
_BRACKETED = re.compile(r"([+-]?)\(([\d./]+)\)")
_AND_A_PART = re.compile(r"(?<=\d) and (?:a|one) (half|quarter)\b")
_ORDINAL = re.compile(r"(?:the )?(\d{1,9})(?:st|nd|rd|th)")
_DECADE = re.compile(r"[12]\d\d0s")
_PERCENT = re.compile(r" ?(?:%|percent\b|per cent\b|pct\b|prozent\b|pour ?cent\b|por ciento\b|por cento\b|процент\w*)")
_LETTERS = r"[^\W\d_]"
_UNIT_WORD = rf"\(?{_LETTERS}[^\W_]*(?:'{_LETTERS}+)?(?: ?\^(?:\{{-?\d+\}}|-?\d))?\)?"
_UNIT = re.compile(rf"(?:per |/ ?|-)?{_UNIT_WORD}(?:(?: ?[/*] ?|\. ?|[ -]){_UNIT_WORD})*\.?")
_WORD = re.compile(rf"{_LETTERS}+")
_GLUED_UNITS = split_words(
    "km cm mm nm dm kg kgs kms mg kb mb gb tb ml dl cl lb lbs oz ft in mi yd mph kmh kph usd eur gbp cents dollars"
    " percent hrs hr min mins sec secs ms kwh mwh kw mw gw hz khz mhz ghz pa kpa mpa kj kcal cal kv mv bps kbps"
    " mbps px pt pts euro euros days"
)
_SHORT_UNITS = frozenset("mgshl")
_UPPER_UNIT = re.compile(r"\d ?[NJWVAKCFL](?![^\W_])")
# Units and counted things that stay units if they begin with a capital letter, unlike those of "12 Monkeys".
_COMMON_UNITS = split_words(
    "kilometers kilometres kilometer kilometre km meters metres meter metre centimeters centimetres cm mm miles"
    " mile feet foot ft inches inch yards yard kg kilograms kilogram grams gram g lbs pounds pound ounces ounce oz"
    " tons tonnes liters litres liter litre l ml gallons gallon cups hours hour hrs minutes minute mins seconds"
    " second days day weeks week months month years year dollars dollar usd euros euro eur cents rupees yen yuan"
    " won percent degrees degree celsius fahrenheit kelvin newtons newton joules joule watts watt volts volt amps"
    " ohms hertz hz pascals mph kmh stunden stunde minuten sekunden tage tag wochen monate jahre jahr gramm"
    " kilogramm prozent square cubic sq units unit points point people persons times"
)
# A text with one of these words is no amount: "2 pi", "5 squared", "5 more than x", "12 is even".
_NO_UNIT = split_words(
    "am pm ad bc bce ce pi mod or and to sqrt root log ln sin cos tan base over not th st nd rd than squared"
    " cubed factorial choose plus minus if unless except is are was were out vs versus past x y but oder und ou et"
)


def parse_quantity(text: str, written: str) -> Value | None:
    """Return the number, percentage, amount of money or quantity that ``text`` is as a whole, or None.

    Args:
        text: the cleaned text in lower case.
        written: the text as written; capitals tell ``12 Monkeys`` from ``12 monkeys``.
    """
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed:
        text = bracketed[1] + bracketed[2]
    if " and " in text:
        text = _AND_A_PART.sub(lambda match: " 1/2" if match[1] == "half" else " 1/4", text, count=1)
    ordinal = _ORDINAL.fullmatch(text)
    if ordinal:
        return Value("ordinal", ("ordinal", int(ordinal[1])), text.removeprefix("the "))
    match = None if _DECADE.fullmatch(text) else _NUMBER.match(text)
    if match is None or (match["sign"] and match["sign_after"]):
        return None
    rest, currency = text[match.end() :], match["currency"]
    if match["e"] and match["exponent"] is None:
        return None
    number = _read_number(match, rest)
    if number is None:
        return None
    value = parse_number(number)
    if value is None:
        return None
    percent = _PERCENT.match(rest)
    if percent:
        tail = rest[percent.end() :].strip()
        return Value("percent", value, number) if not tail or read_unit(" " + tail, written) else None
    scaled = _apply_scales(value, rest, bool(currency))
    if scaled is not None:
        value, rest = scaled
        number = format_number(value)
    if not rest.strip():
        return Value("money" if currency else "number", value, number)
    unit = read_unit(rest, written)
    if unit is None:
        return None
    is_money = currency or re.match(rf"(?:{CURRENCY_PATTERN}|(?:dollar|euro|pound|cent|rupee)s?\b)", unit)
    return Value("money" if is_money else "quantity", value, number, unit)


def _read_number(match: re.Match[str], rest: str) -> str | None:
    """Return the number of a match in the notation of ``parse_number()``."""
    sign = "-" if "-" in (match["sign"], match["sign_after"]) else ""
    if match["power"]:
        exponent = re.sub(r"^10 ?(?:\^|\*\*) ?|[{}()+]", "", match["power"])
        return f"{sign}10^{exponent}"
    has_unit = bool(match["currency"] or match["exponent"] or re.match(rf" ?(?:%|[€£¥₹₩]|{_LETTERS})", rest))
    is_euro = match["currency"] in ("€", "eur", "euro") or re.match(r" ?(?:€|euros?\b|eur\b)", rest) is not None
    token = match["whole"] or match["number"]
    number = read_decimal(token, has_unit=has_unit, is_euro=is_euro)
    if number is None:
        return None
    if match["part"]:
        return f"{sign}{number} {match['part'].replace(' ', '')}" if number.isdigit() else None
    if match["denominator"]:
        denominator = read_decimal(match["denominator"])
        return denominator and f"{sign}{shorten_decimal(number)}/{shorten_decimal(denominator)}"
    number = shorten_decimal(sign + number)
    if match["exponent"]:
        power = match["exponent"].removeprefix("+")
        return f"{number}e{power}" if match["e"] else f"{number}*10^{power}"
    return number


def _apply_scales(value: Fraction, rest: str, is_money: bool) -> tuple[Fraction, str] | None:
    """Multiply by the scale words that begin ``rest``; None if there are none."""
    found = False
    while True:
        word = re.match(rf" ?({_LETTERS}+)\b\.?", rest)
        if word is None:
            break
        name = word[1]
        factor = SCALES.get(name) or (_MONEY_SUFFIXES.get(name) if is_money and not found else None)
        size = word.end()
        if factor is None and name[0] in SCALES and ord(name[0]) > 0x2E80:  # 500万円
            factor, size = SCALES[name[0]], word.start(1) + 1
        if factor is None:
            break
        value, rest, found = value * factor, rest[size:], True
    return (value, rest) if found else None


def read_unit(rest: str, written: str) -> str | None:
    """Return the unit that ``rest`` is as a whole, or None."""
    unit = rest.strip()
    if re.fullmatch(CURRENCY_PATTERN, unit):
        return unit
    match = _UNIT.fullmatch(unit)
    if match is None or unit[0] == "(":
        return None
    words = _WORD.findall(unit)
    first = words[0]
    if len(words) > 6 or not _NO_UNIT.isdisjoint(words):
        return None
    is_glued = rest[0] not in " /-"
    is_east_asian = ord(first[0]) > 0x2E80  # written without spaces
    if is_glued and not (is_east_asian or first in _GLUED_UNITS | _COMMON_UNITS | _SHORT_UNITS):
        return None
    if len(first) == 1 and rest[0] in "/-":  # 5/m is a formula
        return None
    if len(first) == 1 and not (is_east_asian or first in _SHORT_UNITS or _UPPER_UNIT.search(written)):
        return None
    capitals = {name.casefold() for name in re.findall(r"\b[A-Z](?:[a-z]+|[A-Z]{2,})", written)}
    if first in capitals and (first not in _COMMON_UNITS | _GLUED_UNITS or len(words) > 1):
        return None
    for before, word in pairwise(words):
        if word in capitals and before != "of" and word not in _COMMON_UNITS:
            return None
    return unit

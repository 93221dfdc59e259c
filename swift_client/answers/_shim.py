from __future__ import annotations
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from swift_client.answers.normalize import normalize, has_words
from swift_client.answers.numbers import parse_number

@dataclass(frozen=True, slots=True)
class Value:
    kind: str
    key: Hashable
    text: str

_T = re.compile(r"\\(?:text|mathrm|mbox)\{[^}]*\}")
def parse_value(text: str) -> Value | None:
    text = text.strip()
    if not text: return None
    n = normalize(text)
    num = parse_number(n)
    if num is not None:
        return Value("number", num, n)
    if re.fullmatch(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}", n): return Value("date", n, n)
    if re.fullmatch(r"(?i)[(\[]?[a-j][)\].]?", text): return Value("letter", n, n)
    if re.fullmatch(r"(?i)\W*(yes|no|true|false)\W*", text): return Value("yes_no", n, n)
    if len(text) <= 80 and re.search(r"[\d\\]", text) and not has_words(_T.sub("", text)):
        return Value("formula", n, n)
    return None

_S = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{2,4}|[-+]?[$€£¥]?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?")
def scan_values(text: str) -> Iterator[tuple[int, int, Value]]:
    for m in _S.finditer(text):
        t = m[0].rstrip(",")
        v = parse_value(t)
        if v: yield m.start(), m.start()+len(t), v

"""Precision and recall of the presets of ``redact=``, on generated texts with and without private data."""

from __future__ import annotations

import argparse
import base64
import json
import random
import re
import string
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from swift_client.redaction.presets import PRESETS, passes_luhn

N_TEXTS = 2000  # per preset, with and without
_FRAMES = (
    "Please send it to {} today.",
    "{}",
    "Contact:\n- {}\n- thanks",
    "My details ({}) have changed, what is 17 * 24?",
    "| name | value |\n| Jane | {} |",
    '{{"field": "{}", "amount": 12.50}}',
    "Kannst du {} prüfen?",
    "Here it is: {}. Anything else?",
)
_NAMES = ("jane.doe", "m.müller", "info", "a_b-c", "x1", "o'neil", "first.last+tag", "JDOE", "团队", "sales%eu")
_DOMAINS = ("example.com", "mail.example.co.uk", "uni-köln.de", "sub.a-b.io", "EXAMPLE.ORG", "xn--bcher-kva.example")
_WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo", "lima")
_IBAN_LENGTHS = {"DE": 22, "GB": 22, "FR": 27, "NL": 18, "ES": 24, "CH": 21, "NO": 15, "MT": 31}


def mails(random_: random.Random) -> str:
    """Return a mail address."""
    name, domain = random_.choice(_NAMES), random_.choice(_DOMAINS)
    return name + random_.choice(("@", "@", "@", " (at) ", "[at]")) + domain


def cards(random_: random.Random) -> str:
    """Return a card number with a right check digit, as people write them."""
    start, length = random_.choice(
        (
            ("4", 16),
            ("51", 16),
            ("55", 16),
            ("2221", 16),
            ("34", 15),
            ("37", 15),
            ("6011", 16),
            ("3566", 16),
            ("36", 14),
        )
    )
    digits = start + "".join(random_.choices(string.digits, k=length - len(start) - 1))
    digits += next(digit for digit in string.digits if passes_luhn(digits + digit))
    gap = random_.choice(("", " ", "-"))
    sizes = (4, 6, 5) if length == 15 else (4, 6, 4) if length == 14 else (4, 4, 4, 4)
    return gap.join(_split(digits, sizes))


def ibans(random_: random.Random) -> str:
    """Return an account number with right check digits."""
    country = random_.choice(sorted(_IBAN_LENGTHS))
    account = "".join(random_.choices(string.digits, k=_IBAN_LENGTHS[country] - 4))
    if country in ("GB", "NL", "MT"):
        account = "".join(random_.choices(string.ascii_uppercase, k=4)) + account[4:]
    remainder = int("".join(str(int(char, 36)) for char in account + country + "00")) % 97
    compact = f"{country}{98 - remainder:02d}{account}"
    return compact if random_.random() < 0.4 else " ".join(_split(compact, (4,) * 8))


def phones(random_: random.Random) -> str:
    """Return a phone number in one of the forms in use."""

    def digits(count: int) -> str:
        return random_.choice("23456789") + "".join(random_.choices(string.digits, k=count - 1))

    forms: Sequence[Callable[[], str]] = (
        lambda: f"+1 {digits(3)} {digits(3)} {digits(4)}",
        lambda: f"+1{digits(10)}",
        lambda: f"({digits(3)}) {digits(3)}-{digits(4)}",
        lambda: f"{digits(3)}-{digits(3)}-{digits(4)}",
        lambda: f"{digits(3)}.{digits(3)}.{digits(4)}",
        lambda: f"+49 {digits(3)} {digits(7)}",
        lambda: f"+49 (0){digits(3)}/{digits(7)}",
        lambda: f"0049 {digits(2)} {digits(8)}",
        lambda: f"0{digits(3)} {digits(7)}",
        lambda: f"0{digits(3)}/{digits(6)}",
        lambda: f"+44 20 {digits(4)} {digits(4)}",
        lambda: f"020 {digits(4)} {digits(4)}",
        lambda: f"+33 6 {digits(2)} {digits(2)} {digits(2)} {digits(2)}",
        lambda: f"06 {digits(2)} {digits(2)} {digits(2)} {digits(2)}",
        lambda: f"+91 {digits(5)} {digits(5)}",
        lambda: f"+86-{digits(3)}-{digits(4)}-{digits(4)}",
        lambda: f"Tel. {digits(10)}",
        lambda: f"call me at {digits(3)}-{digits(4)}",
    )
    return random_.choice(forms)()


def keys(random_: random.Random) -> str:
    """Return a key, a token or a password with its name."""

    def characters(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
        return "".join(random_.choices(alphabet, k=count - 1)) + random_.choice(string.digits)

    def token() -> str:
        parts = [json.dumps({"alg": "HS256"}), json.dumps({"sub": characters(8), "iat": 1700000000})]
        return (
            ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
            + "."
            + characters(43)
        )

    def pem() -> str:
        body = "\n".join(characters(64) for _ in range(5))
        return f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"

    upper = string.ascii_uppercase + string.digits
    forms: Sequence[Callable[[], str]] = (
        lambda: f"sk-{characters(48)}",
        lambda: f"sk-proj-{characters(60)}",
        lambda: f"sk-ant-api03-{characters(90)}",
        lambda: f"sk_live_{characters(24)}",
        lambda: f"AKIA{characters(16, upper)}",
        lambda: f"ghp_{characters(36)}",
        lambda: f"github_pat_{characters(22)}_{characters(59)}",
        lambda: f"xoxb-{characters(12, string.digits)}-{characters(24)}",
        lambda: f"AIza{characters(35)}",
        lambda: f"hf_{characters(34)}",
        lambda: f"api_key={characters(32)}",
        lambda: f'"secret": "{characters(40)}"',
        lambda: f"password: {characters(10)}",
        lambda: f"Authorization: Bearer {characters(40)}",
        lambda: f"postgres://admin:{characters(12)}@db.example.com/x",
        token,
        pem,
    )
    return random_.choice(forms)()


MAKERS: Mapping[str, Callable[[random.Random], str]] = {
    "mails": mails, "phones": phones, "cards": cards, "ibans": ibans, "keys": keys,
}  # fmt: skip


def harmless_texts(random_: random.Random) -> Iterator[str]:
    """Yield texts like those of models that have no private data: mathematics, dates, lists, code, prices."""
    number = random_.randint
    forms: Sequence[Callable[[], str]] = (
        lambda: f"{number(10**6, 10**9)} + {number(10**6, 10**9)} = {number(10**7, 10**10)}",
        lambda: f"The answer is {number(1, 10**12)}.",
        lambda: f"The answer is {number(1, 10**9):,}.",
        lambda: f"x = {random_.uniform(-1e6, 1e6)!r}",
        lambda: f"{random_.random()!r} and {random_.random():.15f}",
        lambda: f"\\boxed{{{number(10**12, 10**19)}}}",
        lambda: f"{number(1, 99)}! has the digits {number(10**15, 10**16)}",
        lambda: f"On {number(1, 28):02d}.{number(1, 12):02d}.{number(1900, 2030)} at {number(0, 23):02d}:05",
        lambda: f"{number(1900, 2030)}-{number(1, 12):02d}-{number(1, 28):02d}T10:00:00+02:00",
        lambda: f"{number(1, 12):02d}/{number(1, 28):02d}/{number(1900, 2030)}",
        lambda: " ".join(str(number(1, 50)) for _ in range(12)),
        lambda: ", ".join(str(number(100, 9999)) for _ in range(8)),
        lambda: " ".join(f"{number(0, 99):02d}" for _ in range(10)),
        lambda: f"{number(10, 999)}-{number(10, 999)}={number(-999, 999)}",
        lambda: f"({number(100, 999)}) {number(100, 999)} / {number(2, 9)}",
        lambda: (
            f"Room {number(100, 999)}, pages {number(100, 499)}-{number(500, 999)}, ISBN 978-3-16-148410-{number(0, 9)}"
        ),
        lambda: f"version {number(0, 9)}.{number(0, 20)}.{number(0, 99)}, commit {number(16**9, 16**10):x}",
        lambda: f"192.168.{number(0, 255)}.{number(0, 255)}:8080, port {number(1024, 65535)}",
        lambda: f"def f(x):\n    return x @ w + {number(1, 9)}  # tokens = {number(1000, 100000)}",
        lambda: f"max_tokens={number(100, 4000)}, token: {random_.choice(_WORDS)}, author: {random_.choice(_WORDS)}",
        lambda: f"Reset your password: {' '.join(random_.choices(_WORDS, k=4))}.",
        lambda: f"a key idea is that {' '.join(random_.choices(_WORDS, k=9))} @ {number(2, 9)} units",
        lambda: f"${number(1, 999)}.{number(10, 99)} and {number(1, 999)} 000 000 EUR",
        lambda: f"+{number(1, 99)} degrees, -{number(1, 40)}, {number(1, 9)}e+{number(10, 99)}",
        lambda: f"{number(0, 9)}" * 16 + f" and 0.{number(10**15, 10**16)}",
        lambda: f"order no {number(10**9, 10**10)}, id {number(10**11, 10**12)}",
    )
    while True:
        yield random_.choice(forms)()


def measure(seed: int, n_texts: int) -> dict[str, dict[str, float]]:
    """Return recall, precision and changed harmless texts, 0..1, of each preset.

    A text counts as found if no run of six characters of the private part is left, apart from its announcing words.
    Precision is that of a mixture of as many texts with private data of the preset as harmless ones.
    """
    results = {}
    for name, make in MAKERS.items():
        random_ = random.Random(f"{seed}:{name}")
        redact = PRESETS[name]
        found = sum(_is_found(make(random_), random_, redact) for _ in range(n_texts))
        harmless = harmless_texts(random_)
        changed = sum(redact(text) != text for text in (next(harmless) for _ in range(n_texts)))
        results[name] = {
            "recall": found / n_texts,
            "precision": found / max(1, found + changed),
            "changed_harmless": changed / n_texts,
        }
    return results


def _is_found(private: str, random_: random.Random, redact: Callable[[str], str]) -> bool:
    text = random_.choice(_FRAMES).format(private)
    redacted = redact(text)
    core = re.sub(r"^(?:Tel\. |call me at |Authorization: Bearer |password: |api_key=|\"secret\": \")", "", private)
    core = re.sub(r"^postgres://admin:|@db\.example\.com/x$|\"$", "", core)
    return not any(core[start : start + 6] in redacted for start in range(max(1, len(core) - 5)))


def seconds_per_megabyte() -> float:
    """Return the seconds that all presets take for a megabyte of ordinary text."""
    random_ = random.Random(0)
    harmless = harmless_texts(random_)
    text = "\n".join(next(harmless) for _ in range(30_000))[:1_000_000]
    started = time.perf_counter()
    for redact in PRESETS.values():
        redact(text)
    return time.perf_counter() - started


def _split(text: str, sizes: Sequence[int]) -> list[str]:
    parts, start = [], 0
    for size in sizes:
        parts.append(text[start : start + size])
        start += size
    return [part for part in [*parts, text[start:]] if part]


def main() -> None:
    """Print the table, or with --json one document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--texts", type=int, default=N_TEXTS)
    arguments = parser.parse_args()
    results, seconds = measure(arguments.seed, arguments.texts), seconds_per_megabyte()
    if arguments.json:
        bars = {
            f"{name}_{kind}": {"value": row[kind], "target": 0.95, "unit": "0-1", "interval": None}
            for name, row in results.items()
            for kind in ("recall", "precision")
        }
        print(json.dumps({"bars": bars, "presets": results, "seconds_per_megabyte": seconds}))
        return
    print(f"{'preset':8} {'recall':>8} {'precision':>10} {'harmless texts changed':>24}")
    for name, row in results.items():
        print(f"{name:8} {row['recall']:8.3f} {row['precision']:10.3f} {row['changed_harmless']:24.4f}")
    print(f"all presets take {seconds:.2f} s for a megabyte")


if __name__ == "__main__":
    main()

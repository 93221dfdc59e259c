"""The presets of ``redact=``: hand cases, a generated set, hostile texts, and stand-ins for tokens."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.redaction import measure
from swift_client import answers
from swift_client.features.token_table import describe_text
from swift_client.redaction.hashes import hash_id
from swift_client.redaction.policy import create_policy
from swift_client.redaction.presets import PRESETS, passes_luhn
from swift_client.redaction.stand_ins import replace_tokens
from swift_client.types import Completion, ToolCall
from tests.generated import completion

FOUND = {
    "mails": [
        ("Write to a.b+c@mail.example.co.uk.", "Write to [mail]."),
        ("<jane@example.org>, bob (at) uni-köln.de", "<[mail]>, [mail]"),
        ('{"to":"o\'neil@x.io"}', '{"to":"[mail]"}'),
    ],
    "phones": [
        ("Call +49 (0)171 5550123 now", "Call [phone] now"),
        ("(415) 555-0132 or 415-555-0132.", "[phone] or [phone]."),
        ("06 12 34 56 78; 0044 20 7946 0958", "[phone]; [phone]"),
        ("Tel.: 4155550132", "Tel.: [phone]"),
        ("Phone number: 555 0132", "Phone number: [phone]"),
    ],
    "cards": [
        ("4111111111111111, 4111-1111-1111-1111", "[card], [card]"),
        ("Amex 3782 822463 10005 and 5500 0000 0000 0004.", "Amex [card] and [card]."),
    ],
    "ibans": [
        ("DE89 3704 0044 0532 0130 00 BIC COBADEFF", "[iban] BIC COBADEFF"),
        ("GB82WEST12345698765432", "[iban]"),
    ],
    "keys": [
        ("key sk-proj-abcDEF1234567890abcd!", "key [key]!"),
        ("AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("ghp_" + "a1" * 18, "[key]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_9", "[key]"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY----- end", "[key] end"),
        ("a -----BEGIN EC PRIVATE KEY-----\nMIIE", "a [key]"),
        ("password='hunter22' user=x", "password='[key]' user=x"),
        ("api_key: 9f8a7b6c5d4e3f2a1b0c", "api_key: [key]"),
        ("postgres://bob:s3cr3t@host/db", "postgres://[key]@host/db"),
    ],
}
KEPT = {
    "mails": ["12 @ 3.50", "@user said", "a@b", "f(x) @ w", "x@y.z"],
    "phones": [
        "The answer is 4155550132.", "12345678901", "2024-01-15", "01.02.2024", "1 2 3 4 5 6 7 8", "3.14159265358979",
        "pages 100-200", "01 02 03 04 05 06 07", "10-20=-10", "x = +12", "192.168.10.254", "415-555", "0.1234 5678",
    ],
    "cards": ["4111111111111112", "0.4111111111111111", "1234567890123456", "9" * 16],
    "ibans": ["DE89 3704 0044 0532 0130 01", "AB12", "UTF8 CODE"],
    "keys": [
        "sk-learn-is-a-library-of-models", "max_tokens=4096", "the secret: patience", "token: alphabet",
        "author: Smith12345", "password reset", "the key = value", "-----BEGIN CERTIFICATE-----",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("preset", "text", "expected"), [(name, *row) for name, rows in FOUND.items() for row in rows])
def test_private_data_is_replaced_and_the_rest_stays(preset: str, text: str, expected: str) -> None:
    assert PRESETS[preset](text) == expected
    assert PRESETS[preset](expected) == expected


@pytest.mark.parametrize(("preset", "text"), [(name, text) for name, texts in KEPT.items() for text in texts])
def test_what_only_looks_private_stays(preset: str, text: str) -> None:
    assert PRESETS[preset](text) == text


def test_luhn_finds_every_single_wrong_digit() -> None:
    number = "79927398713"  # the example of the patent's description
    assert passes_luhn(number)
    for place, digit in enumerate(number):
        for other in set("0123456789") - {digit}:
            assert not passes_luhn(number[:place] + other + number[place + 1 :])


@pytest.mark.parametrize("seed", [1, 2])
def test_presets_find_generated_data_and_leave_mathematics_alone(seed: int) -> None:
    for name, row in measure(seed, 400).items():
        assert row["recall"] >= 0.98, name
        assert row["precision"] >= 0.98, name


_UNITS = (
    "a", "1", "1 ", "12 ", "+1", "+1 ", "+(1", "@", "a@", "a.", "a@b.", "a (at) b", "eyJ", "eyJaaaaaa.", "sk-", "ghp_",
    "é@", "-----BEGIN PRIVATE KEY-----", "-----BEGIN AAAAAAAA", "token=", "token", "secret :=  a", "://a:", "(0", "01 ",
    "DE89 ", "AA11 AAAA ", "4111 ", "4111-", "tel. 1", "Bearer ", " ", "\n", "a@xn--", "0012-(3",
)  # fmt: skip


@pytest.mark.parametrize("unit", _UNITS)
def test_hostile_texts_take_linear_time(unit: str) -> None:
    """A quadratic pattern would take minutes for 400 kB; all presets take less than a second."""
    text = unit * (400_000 // len(unit))
    for name, redact in PRESETS.items():
        started = time.process_time()
        redact(text)
        assert time.process_time() - started < 3.0, name


# Tokens

_TOKENS = st.lists(st.text(st.sampled_from("aZé7½ \n.,$_中١\u00a0\ufffd"), max_size=5), max_size=60)


@given(_TOKENS, st.randoms())
@settings(max_examples=200, deadline=None)
def test_stand_ins_keep_the_facts_of_tokens_and_the_number_of_different_ones(tokens: list[str], random: object) -> None:
    is_replaced = np.array([random.random() < 0.7 for _ in tokens], np.bool_)  # type: ignore[attr-defined]

    replaced = replace_tokens(tokens, is_replaced)

    assert list(map(describe_text, replaced)) == list(map(describe_text, tokens))
    chosen = [index for index in range(len(tokens)) if is_replaced[index]]
    assert len({replaced[index] for index in chosen}) == len(
        {tokens[index] for index in chosen if tokens[index].strip()}
    ) + len({tokens[index] for index in chosen if not tokens[index].strip()})
    for index, token in enumerate(tokens):
        if not is_replaced[index]:
            assert replaced[index] == token
        elif token.strip():
            assert not set(replaced[index]) & set("aZé7½.,$_中١\ufffd") or token.strip().isdigit()


def test_equal_tokens_cannot_be_told_from_their_stand_ins() -> None:
    """A text whose repetitions can be seen is a substitution cipher."""
    one = replace_tokens(["ab", "cd", "ab", "ef"], np.ones(4, np.bool_))
    other = replace_tokens(["ab", "ab", "cd", "ef"], np.ones(4, np.bool_))

    assert one == other


# Completions


def _policy(**options: object):  # type: ignore[no-untyped-def]
    policy = create_policy(options.get("redact", ["cards"]), str(options.get("keep", "all")), answers.read_answer)  # type: ignore[arg-type]
    assert policy is not None
    return policy.for_file(b"salt")


def _with_text(tokens: list[str], **options: object) -> Completion:
    base = completion(0, tokens=len(tokens))
    return Completion(
        text="".join(tokens), tokens=tuple(tokens), logprobs=base.logprobs, top_logprobs=base.top_logprobs,
        censored=base.censored, top_ids=np.ones(base.top_logprobs.shape, np.uint32), **options,
    )  # type: ignore[arg-type]  # fmt: skip


def test_only_tokens_of_the_private_part_are_replaced_with_the_ids_of_their_alternatives() -> None:
    original = _with_text(["Pay", " 4111", "1111", "1111", "1111", " now", "."])

    stored = _policy().completion(original, "q")

    assert stored.text.startswith("Pay [card] now.\n[answer:")  # a short reply is its own answer
    assert (stored.tokens[0], stored.tokens[5:]) == ("Pay", (" now", "."))
    assert not set("".join(stored.tokens[1:5])) & set("14")
    assert stored.top_ids is not None
    assert stored.top_ids.any(axis=1).tolist() == [True, False, False, False, False, True, True]
    np.testing.assert_array_equal(stored.logprobs, original.logprobs)
    np.testing.assert_array_equal(stored.top_logprobs, original.top_logprobs)


def test_all_tokens_are_replaced_if_they_are_not_those_of_the_text() -> None:
    original = _with_text(["Pay", " 4111111111111111", "<|eot|>"])
    original = Completion(**{**vars(original), "text": "Pay 4111111111111111"})

    stored = _policy().completion(original, "q")

    assert "Pay" not in stored.tokens
    assert stored.text.startswith("Pay [card]\n[answer:")


def test_thinking_and_the_arguments_of_tools_are_redacted_too() -> None:
    thinking = _with_text(["4111111111111111"])
    calls = (ToolCall(name="pay", arguments='{"card": "4111111111111111"}'),)
    original = Completion(**{**vars(_with_text(["fine"])), "thinking": thinking, "tool_calls": calls})

    for keep in ("all", "arrays"):
        stored = _policy(keep=keep).completion(original, "q")
        assert stored.thinking is not None
        everything = repr((stored.thinking.text, stored.thinking.tokens, stored.tool_calls))
        assert "4111" not in everything
        assert len(stored.thinking.tokens) == 1
    other = (ToolCall(name="pay", arguments='{"card": "5500000000000004"}'),)
    stored, different = (
        _policy().completion(Completion(text="", finish_reason="tool_calls", tool_calls=made), "q")
        for made in (calls, other)
    )
    assert answers.read(*answers.texts_to_read([stored, different, stored], "auto")).groups == (0, 1, 0)


def test_an_unchanged_completion_is_the_same_object() -> None:
    original = _with_text(["The answer is", " 4"])

    assert _policy().completion(original, "q") is original
    assert _policy(keep="arrays").completion(original, "q") is not original


def test_hashes_of_answers_differ_by_question_and_file() -> None:
    original = _with_text(["The answer is", " 4"])
    policy = create_policy(None, "arrays", answers.read_answer)
    assert policy is not None
    texts = {
        policy.for_file(key).completion(original, question).text for key in (b"1", b"2") for question in ("a", "b")
    }

    assert len(texts) == 4
    assert all(answers.find_hash(text) for text in texts)


def test_a_private_answer_does_not_become_equal_to_another() -> None:
    policy = _policy()
    one, other = (
        policy.completion(_with_text([f"The answer is {card}"]), "q")
        for card in ("4111111111111111", "5500000000000004")
    )

    read = answers.read([one.text, other.text, one.text, "The answer is [card]"])
    assert read.groups == (0, 1, 0, 2)


def test_messages_lose_private_texts_and_media_but_not_their_structure() -> None:
    policy = create_policy(["mails"], "all", answers.read_answer)
    assert policy is not None

    def messages(text: str, audio: dict[str, object]) -> list[dict[str, object]]:
        call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": f'"{text}"'}}
        return [
            {"role": "user", "name": text, "content": [{"type": "text", "text": text}, audio]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ]

    spoken: dict[str, object] = {"type": "input_audio", "input_audio": {"data": "QUJD"}}
    stored = policy.messages(messages("x@example.org", spoken))

    assert list(stored) == messages("[mail]", {"type": "text", "text": "[input_audio]"})


@pytest.mark.parametrize(
    ("preset", "secret"),
    [
        ("mails", "jane@example.org"),
        ("phones", "+49 171 5550123"),
        ("phones", "+49\u00a0171\u00a05550123"),
        ("keys", "sk-proj-abcDEF1234567890abcd"),
        ("ibans", "DE89 3704 0044 0532 0130 00"),
        ("cards", "4111\u00a01111\u00a01111\u00a01111"),
    ],
)
@pytest.mark.parametrize("before", ["", "Hi:\n", "\r\n", "\t", "Grüße\n", '"'])
def test_private_data_behind_the_escapes_of_json_is_replaced_and_the_json_stays_whole(
    preset: str, secret: str, before: str
) -> None:
    policy = create_policy([preset], "all", answers.read_answer)
    assert policy is not None
    value = {"body": f"{before}{secret}\nBye 😀", "n": 4}
    mark = f"[{preset.removesuffix('s')}]"
    everything_escaped = json.dumps(value).replace("@", "\\u0040").replace("+", "\\u002b").replace("\\n", "\\u000a")

    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False), everything_escaped):
        assert json.loads(policy.text(text)) == {"body": f"{before}{mark}\nBye 😀", "n": 4}
        assert policy.text(json.dumps({"arguments": text})).count(mark) == 1  # JSON in JSON


def test_a_function_sees_what_json_escapes() -> None:
    policy = create_policy(lambda text: re.sub(r"\bJürgen\b", "[name]", text), "all", answers.read_answer)
    assert policy is not None

    assert json.loads(policy.text(json.dumps({"a": "Hi\nJürgen"}))) == {"a": "Hi\n[name]"}


def test_formulas_that_look_like_escapes_stay() -> None:
    policy = create_policy(list(PRESETS), "all", answers.read_answer)
    assert policy is not None
    text = r"\nabla f = \frac{\text{d}}{\theta}, \u00e9, C:\temp\new"

    assert policy.text(text) == text


def test_whole_numbers_and_inline_data_are_no_way_around() -> None:
    policy = create_policy(["cards"], "all", answers.read_answer)
    assert policy is not None
    value = {"card": 4111111111111111, "n": 17, "seed": 10**12, "parts": [{"mime_type": "image/png", "data": "QUJD"}]}

    assert policy.value(value) == {
        "card": "[card]", "n": 17, "seed": 10**12, "parts": [{"type": "text", "text": "[data]"}],
    }  # fmt: skip


def test_ids_of_the_user_stay_and_computed_ones_do_not() -> None:
    computed = "asked-" + "0" * 32

    assert hash_id(b"k", "q1") == "q1"
    assert hash_id(b"k", computed) != computed
    assert hash_id(b"k", computed).startswith("asked-")
    assert len(hash_id(b"k", computed)) == len(computed)
    assert hash_id(b"k", computed) == hash_id(b"k", computed) != hash_id(b"l", computed)

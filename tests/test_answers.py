"""Tests of reading and normalizing answers.

Measured on OpenAI's graded GSM8K solutions (660 questions x 4, with ``is_correct``): "number" reads 2,640 of 2,640 and
agrees with ``is_correct`` on all; "auto" leaves 7 unread (solutions that loop until they are cut, all of them wrong)
and agrees on all. MATH-500: the boxed answer of all 500 solutions. GSM8K test: 1,319 of 1,319. AQuA: 238 of 254
rationales; the other 16 name no option letter (they end in a value, in "3=C" or "Thus A"), and none is misread.
Of the 500 reference answers of MATH-500 the normal form joins 9 sets that are written differently (``$36`` and ``36``;
``x=5`` and ``5``; ...), all of them equal; math-verify joined none of 9,730 pairs of different ones.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swift_client.answers import READERS, get_reader, normalize, read
from swift_client.errors import ConfigurationError

SHARED = Path(__file__).parents[1].parent / "shared"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the recordings and data sets are not on this machine")


def lines(path: str) -> list[dict]:
    return [json.loads(line) for line in (SHARED / path).read_text().splitlines()]


def answer(spec, text: str) -> str | None:
    return get_reader(spec)(text)


NORMAL = [
    (r"$\boxed{18}$", "18"),
    ("$18", "18"),
    (r"\$18", "18"),
    ("18.00", "18"),
    ("**18** dollars.", "18"),
    ("18 eggs per day", "18"),
    ("x = 18", "18"),
    ("f(3) = 18", "18"),
    ("21+49=70", "70"),
    ("21 apples + 49 apples = 70 apples", "70"),
    ("x = 3 + 4 = 7", "7"),
    ("x^2 + y^2 = 4", "x^2+y^2=4"),
    ("x=1,y=2", "x=1, y=2"),
    ("x = 5 or x = 6", "x=5 or x=6"),
    ("1,234", "1234"),
    ("1, 234", "1, 234"),
    ("(1,234)", "(1, 234)"),
    ("$1,234.50", "1234.5"),
    (r"10,\!080", "10080"),
    ("5\u202f000", "5000"),
    ("+007.50", "7.5"),
    (".5", "0.5"),
    ("-0", "0"),
    ("−5", "-5"),
    ("– 5", "-5"),
    (r"5\text{ cm}", "5"),
    (r"15\mbox{ cm}^2", "15"),
    ("5 km/h", "5"),
    ("12 square feet", "12"),
    ("5cm", "5"),
    ("5 am", "5 am"),
    ("2 pi", "2 pi"),
    ("5x", "5x"),
    ("5 x", "5 x"),
    ("5 hours 30 minutes", "5 hours 30 minutes"),
    ("$3.5 million", "3500000"),
    ("two", "2"),
    ("50%", "50"),
    (r"50\%", "50"),
    ("50 percent", "50"),
    ("€5", "5"),
    ("5 €", "5"),
    ("USD 5", "5"),
    (r"90^\circ", "90"),
    ("25°C", "25"),
    ("approximately 3.14", "3.14"),
    (r"\frac{14}{3}", "14/3"),
    (r"\dfrac{1}{2}", "1/2"),
    (r"\frac12", "1/2"),
    (r"-\frac{3}{4}", "-3/4"),
    (r"2\frac{1}{2}", "2 1/2"),
    ("3½", "3 1/2"),
    (r"\frac{1}{2}x", r"\frac{1}{2}x"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
    ("√3", r"\sqrt{3}"),
    (r"\sqrt3", r"\sqrt{3}"),
    ("sqrt(3)", r"\sqrt{3}"),
    (r"x \in [0, 1)", "[0, 1)"),
    (r"\Delta", r"\Delta"),
    (r"\text{Evelyn}", "evelyn"),
    ("6 - 5i", "6-5i"),
    ("The Last Voyage.", "the last voyage"),
    ("(B)", "b"),
    ("B.", "b"),
    ("(B) 12 apples", "b"),
    (r"\text{(B)}", "b"),
    ("A. Lincoln", "a. lincoln"),
    ("(a) 3 (b) 4", "(a)3(b)4"),
    ("٣٤", "34"),
    ("１８", "18"),
    ("4️⃣2️⃣", "42"),
    ("\u202e18\u202c", "18"),
    ("18\x00", "18"),
    ("1e999999999", "1e999999999"),
    (r"1.5\times10^{3}", "1.5*10^3"),
    ("", ""),
]


@pytest.mark.parametrize(("written", "form"), NORMAL)
def test_each_way_of_writing_an_answer_has_one_normal_form(written: str, form: str) -> None:
    assert normalize(written) == form


PIECES = [
    *"0123456789.,+-*/^=(){}[]$%°'~ xyab\\",
    r"\frac",
    r"\text{",
    r"\sqrt",
    "**",
    " cm",
    "½",
    "−",
    "²",
    " million",
]
MATHLIKE = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


@given(st.one_of(st.text(max_size=60), MATHLIKE))
@example("1, 234")
@example("$$18$$.")
@example("ß" * 200)
def test_a_normal_form_is_its_own_normal_form(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


AUTO = [
    ("She sells 9 eggs.\nA: 18", "18"),
    ("9 * 2 = <<9*2=18>>18\n#### 18", "18"),
    ("So the answer is 18 eggs per day at the market, which is a lot of eggs.", "18"),
    ("The answer is **42**.", "42"),
    ("**Answer:** 42", "42"),
    (r"**Answer**: $\frac{1}{2}$", "1/2"),
    (r"Answer: \(x=5\)", "5"),
    ("The final answer is $18 per day.", "18"),
    ("The answer is $3 + 4 = 7$.", "7"),
    ("**Final Answer**\n\n42", "42"),
    (r"The answer is 3. No: \boxed{\frac{1}{2}}, so 7", "1/2"),
    (r"\boxed{2} and then \boxed{\text{(C)}}", "c"),
    ("The answer is 3. No, the answer is 4.", "4"),
    ("The answer is (B) because 12 is even.", "b"),
    ("The correct option is (C).", "c"),
    ("So the answer is no.", "no"),
    ("The answer to your question is Paris.", "paris"),
    ("answer: −3", "-3"),
    ("42", "42"),
    ("Paris", "paris"),
    ("Yes.", "yes"),
    (r"\frac{1}{2}", "1/2"),
    ("The answer is not simple, because it depends. Let me explain at length.", None),
    ("The answer is simple. Let me explain it to you in several steps.", None),
    ("Answer: It depends on the context and on what exactly you want from it.", None),
    ("A: Sure, I can help with that. Here is a list of things you should know.", None),
    ("Once upon a time there was a king who had a long beard and 3 sons.", None),
    ("How can I help you?", None),
    ("I hope this helps!", None),
    ('{"answer": 18}', "18"),
    ('{"age": 18}', None),
    ("[1, 2, 3]", None),
    ("def f(x): return x", None),
    ("print('hi')", None),
    ("```python\nx = 1\n```", None),
    ("SELECT 1 FROM t;", None),
    ("", None),
    ("\x00", None),
]


@pytest.mark.parametrize(("text", "value"), AUTO)
def test_auto_reads_what_is_marked_and_nothing_else(text: str, value: str | None) -> None:
    assert answer("auto", text) == value


NAMED = [
    ("number", "She has 3 ducks and 12 eggs.", "12"),
    ("number", "The answer is 5 million.", "5000000"),
    ("number", "16-3 = 13, so -13", "-13"),
    ("number", "16 - 3", "3"),
    ("number", "It costs $1,234.50.", "1234.5"),
    ("number", "#### 10,800", "10800"),
    ("number", r"\boxed{18}, or 19", "18"),
    ("number", "about 3/4 of them", "3/4"),
    ("number", "4️⃣2", "42"),
    ("number", "none", None),
    ("boxed", r"a \boxed{1} b \boxed{ \frac{1}{\sqrt{2}} } c", r"\frac{1}{\sqrt{2}}"),
    ("boxed", r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    ("boxed", r"\boxed{3} and \boxed{4", "3"),
    ("boxed", r"\boxed{\boxed{5}}", "5"),
    ("boxed", r"\fbox{7}", "7"),
    ("boxed", r"\boxed{}", None),
    ("boxed", r"\boxed{5}, as you asked for \boxed{}", "5"),
    ("boxed", "18", None),
    ("choice", "The answer is (B) 12.", "B"),
    ("choice", "(a)", "A"),
    ("choice", "B) 12 apples", "B"),
    ("choice", "A is wrong since 2 > 1.\nSo option C is correct", "C"),
    ("choice", "Long story.\nAnswer: D", "D"),
    ("choice", "D is the answer", "D"),
    ("choice", "ANS:B", "B"),
    ("choice", r"\boxed{\text{E}}", "E"),
    ("choice", "A number is even. I think so.", None),
    ("yes_no", "Yes, because it was flipped twice.", "yes"),
    ("yes_no", "It was flipped. So the answer is no.", "no"),
    ("yes_no", "There is no way to know that it is not", None),
    ("yes_no", "**False**", "no"),
    ("json", '{"b": 1.0, "a": [1, 2.50]}', '{"a":[1,2.5],"b":1}'),
    ("json", 'Here it is:\n```json\n{"a": 1}\n```\nGood luck', '{"a":1}'),
    ("json", 'It is {"a": "x"} as asked', '{"a":"x"}'),
    ("json", '{"a": 1e999999999}', '{"a":1E+999999999}'),
    ("json", 'As in [1]: {"a": 1}', '{"a":1}'),
    ("json", 'It is [{"a": 1}, 2].', '[{"a":1},2]'),
    ("json", '{"a": NaN}', None),
    ("json", '{"a": 1', None),
    ("text", "  The\n  Answer. ", "the answer"),
    (r"total=(\d+)", "total=3 then total=4", "4"),
    (re.compile(r"\d+ eggs"), "3 eggs, 4 eggs", "4"),
    (r"total=(\d+)?", "total=", None),
    (lambda text: text.split(":")[1], "x: 18.0", "18"),
    (lambda text: None, "x", None),
]


@pytest.mark.parametrize(("spec", "text", "value"), NAMED)
def test_each_reader_finds_its_answer(spec, text: str, value: str | None) -> None:
    assert answer(spec, text) == value


@pytest.mark.parametrize("spec", ["nubmer", "yes-no", "", 7, "([0-9]"])
def test_a_spec_that_is_not_a_reader_is_refused_before_anything_is_sent(spec) -> None:
    with pytest.raises(ConfigurationError, match="number, boxed, choice"):
        get_reader(spec)


def test_none_reads_nothing_and_says_nothing() -> None:
    answers = read(["18", "18"], None)
    assert (answers.values, answers.groups, answers.note) == ((None, None), (None, None), None)


def test_auto_reads_nothing_where_fewer_than_half_of_the_texts_are_marked() -> None:
    prose = "It was a dark and stormy night, and the rain fell in torrents."
    few = read(["The answer is 3.", prose, prose], "auto")
    assert few.groups == (None,) * 3
    assert few.values == (None,) * 3
    assert few.note == "Only 1 of 3 texts have a marked answer, so the choice rests on scores alone."
    half = read(["The answer is 3.", prose], "auto")
    assert half.values == ("3", None)
    assert half.note is None
    assert read(["The answer is 3.", "", ""], "auto").values == ("3", None, None)
    assert read(["the number 3", prose, prose], "number").values == ("3", None, None)


def test_a_failing_function_leaves_its_text_unread_and_is_named() -> None:
    answers = read(["a:1", "b", "c"], lambda text: text.split(":")[1])
    assert answers.values == ("1", None, None)
    assert answers.note == "The answer reader failed on 2 of 3 texts: IndexError: list index out of range."


def test_a_function_that_returns_no_text_is_named() -> None:
    answers = read(["1", "2"], lambda text: int(text))
    assert answers.values == (None, None)
    assert "it returned int, not str or None" in answers.note


HOSTILE = {
    "braces": "{" * 1_000_000,
    "closing braces": r"\boxed{" + "}" * 1_000_000,
    "boxes": r"\boxed{" * 140_000,
    "boxed spaces": r"\boxed" + " " * 1_000_000,
    "many boxed spaces": (r"\boxed" + " " * 1_000) * 1_000,
    "backslashes": "\\" * 1_000_000,
    "dollars": "$" * 1_000_000,
    "brackets": "[" * 1_000_000,
    "quotes": '["' * 500_000,
    "marks": "answer is " * 100_000,
    "open marks": "answer " * 140_000,
    "hashes": "#" * 1_000_000,
    "stars": "A" + "*" * 1_000_000,
    "newlines": "\n" * 1_000_000,
    "spaces": " " * 1_000_000,
    "digits": "1" * 1_000_000,
    "commas": "1,111" * 200_000,
    "signs": "-" * 1_000_000,
    "slashes": "1/" * 500_000,
    "fences": "```json\n" * 125_000,
    "letters": "(A) " * 250_000,
    "nul": "\x00" * 1_000_000,
    "right to left": "\u202e" * 1_000_000,
    "words": "word " * 200_000,
    "dots": "a. " * 330_000,
    "exponent": "The answer is 1e" + "9" * 1_000,
    "scientific": "The answer is 10^" + "9" * 9,
}


@pytest.mark.parametrize("spec", ["auto", "number", "boxed", "choice", "yes_no", "json", "text"])
def test_a_megabyte_of_anything_is_read_in_well_under_a_second(spec: str) -> None:
    slow = {}
    for name, text in HOSTILE.items():
        start = time.process_time()
        read([text], spec)
        spent = time.process_time() - start
        if spent > 1.5:
            slow[name] = spent
    assert not slow


@pytest.mark.parametrize(
    "symbol", ["\\frac", "{", "}", "$", "=", ",", " ", "a", "1", "(", "\\text{", "^", "°", "1,", "1 "]
)
def test_the_normal_form_of_a_short_value_is_found_at_once(symbol: str) -> None:
    start = time.process_time()
    normalize((symbol * 300)[:300])
    assert time.process_time() - start < 0.1


@needs_shared
@pytest.mark.parametrize(("spec", "unread"), [("number", 0), ("auto", 7)])
def test_readers_agree_with_the_graded_gsm8k_solutions(spec: str, unread: int) -> None:
    agree = none = total = 0
    for row in lines("recordings/graded/gsm8k_model_solutions.jsonl"):
        solutions = [value for value in row.values() if isinstance(value, dict)]
        answers = read([row["ground_truth"], *(solution["solution"] for solution in solutions)], spec)
        truth, *groups = answers.groups
        for solution, group in zip(solutions, groups, strict=True):
            agree += (group is not None and group == truth) == solution["is_correct"]
            none += group is None
            total += 1
    assert total == 2640
    assert agree / total >= 0.99
    assert none == unread


@needs_shared
def test_readers_agree_with_the_answers_of_public_test_sets() -> None:
    math = [(answer("boxed", row["solution"]), normalize(row["answer"])) for row in lines("datasets/math500.jsonl")]
    gsm8k = [(answer("number", row["answer"]), row["answer"]) for row in lines("datasets/gsm8k_test.jsonl")]
    aqua = [(answer("choice", row["rationale"]), row["correct"]) for row in lines("datasets/aqua_rat_test.jsonl")]
    assert all(answer == expected for answer, expected in math)
    assert all(answer == normalize(text.split("####")[1]) for answer, text in gsm8k)
    assert sum(answer == expected for answer, expected in aqua) >= 238
    assert sum(answer not in (expected, None) for answer, expected in aqua) == 0


@pytest.mark.parametrize(
    "text",
    [
        "\u207b\u2918",
        "\u1c63\u03a0\u1155",
        "\u2034",
        "\u03d6",
        "\u013f",
        "\u1cb3\u0387",
        " " * 9_000 + "\u2034",
        "ﷺ" * 3_999,
    ],
)
def test_normalizing_again_changes_nothing_for_characters_that_decompose(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=6))
def test_normalizing_any_text_again_changes_nothing(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


HOSTILE_UNICODE = {
    "marks in the wrong order": "5 a" + "\u0323\u0301" * 50_000,
    "half-width voice marks": "ｱ" + "\u0323ﾞ" * 33_000,
    "marks joined once joiners are removed": "a" + ("\u0301\u0323" * 14 + "\u200d") * 3_500,
    "one character that becomes 18": "ﷺ" * 66_000,
    "marks that look like letters": "ཀ" + "\u0f73\u0323" * 33_000,
    "emoji": "😀" * 50_000,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", HOSTILE_UNICODE.values(), ids=HOSTILE_UNICODE)
def test_200_kb_of_hostile_unicode_are_read_soon(reader: str, text: str) -> None:
    started = time.process_time()
    READERS[reader](text)
    READERS[reader](f"The answer is {text}.")
    assert time.process_time() - started < 1.0

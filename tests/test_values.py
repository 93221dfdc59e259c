"""Tests of typed values: which writings are one answer, which are not, and which values stand in a text."""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swift_client.answers import normalize
from swift_client.answers.equality import group_answers
from swift_client.answers.values import parse_value, read_value, scan_values

# Each row has the writings of one number, its value worked out by hand.
NUMBERS: list[tuple[Fraction | int, list[str]]] = [
    (
        18,
        [
            "18",
            "$18",
            r"\$18",
            r"$\$18$.",
            "$18.00",
            "18 dollars",
            "USD 18",
            "US$18",
            "18 apples",
            "**18**",
            "£18",
            "A$18",
        ],
    ),
    (
        25,
        [
            "25",
            r"$\$25$",
            "25 cm^2",
            "25 cm²",
            r"25\text{ cm}^2",
            r"25\ \mathrm{cm}^{2}",
            "25 square meters",
            "25%",
            "25 m/s^2",
        ],
    ),
    (40, ["40 kg of CO2", "40", "40.0", "forty", "40 kg", "40 percent", "40°", "40 kilograms"]),
    (
        Fraction(5, 2),
        [
            "2 1/2 miles",
            "2½",
            "2.5",
            "2 ½ cups",
            r"2\frac{1}{2}",
            r"2 \frac12",
            "5/2",
            "two and a half",
            "2 and 1/2",
            "2,5 kg",
        ],
    ),
    (
        12_500,
        [
            "12\u202f500",
            "12\u00a0500",
            "12,500",
            "12500",
            "12 500 km",
            "12.500,00 €",
            "12'500",
            "12_500",
            "1.25e4",
            "12.5 thousand",
        ],
    ),
    (1_234_567, ["₹12,34,567", "1,234,567", "1.234.567", "1 234 567", "1'234'567", "$1,234,567.00", "Rs. 12,34,567"]),
    (Fraction("1234.56"), ["1.234,56 €", "€1.234,56", "1,234.56", "1 234,56", "1'234.56", "1234,56"]),
    (
        150_000_000,
        [
            "1.5 × 10⁸",
            r"1.5 \times 10^{8}",
            "1.5e8",
            "150 million",
            "1.5 x 10^8",
            "1.5*10**8",
            "150,000,000",
            "15 crore",
            "1.5亿",
        ],
    ),
    (
        Fraction(1, 1000),
        ["10^{-3}", "10⁻³", "0.001", "1e-3", "1/1000", r"1 \times 10^{-3}", "0,001 m", "10^-3", "10^(-3)"],
    ),
    (
        Fraction(3, 4),
        [
            "3/4",
            r"$\frac{3}{4}$",
            r"\dfrac34",
            "¾",
            "0.75",
            "three quarters",
            "three-fourths",
            "3/4 of the cake",
            "0,75",
            "three quarters of the cake",
        ],
    ),
    (
        Fraction(7, 2),
        [
            "٣٫٥",
            "３．５",
            "3.5",
            "3½",
            "three and a half",
            "seven halves",
            "3 and a half hours",
            "3,5 kg",
            "3,5 %",
            "three point five",
        ],
    ),
    (Fraction("12.5"), ["１２．５", "12.5", "12½", "12,5 %", "12,50 €", "25/2", "१२.५"]),
    (
        5_000_000,
        [
            "$5 million",
            "5 million",
            "$5M",
            "five million",
            "5.0 million people",
            "US$5 million",
            "5,000,000",
            "50 lakh",
            "5 Millionen",
            "5 mn",
            "500万",
        ],
    ),
    (-1100, [r"-\$1100", "-$1,100", "$-1100", "−1100", "-1100 dollars", "- 1100", "-1.1 thousand"]),
    (5, ["5 dozen", "5", "five", "5 km/h", "5 cm", "5.", "fünf", "cinq", "cinco", "cinque", "五", "5元"]),
    (
        12,
        [
            "twelve",
            "12",
            "twelve (12)",
            "12 (twelve)",
            "a dozen",
            "12 months",
            "Twelve",
            "twelve apples",
            "zwölf",
            "douze",
            "十二",
        ],
    ),
    (21, ["twenty-one", "21", "twenty one", "21 years old", "二十一"]),
    (105, ["one hundred and five", "105", "one hundred five", "a hundred and five"]),
    (1984, ["1984", "nineteen eighty-four", "one thousand nine hundred eighty-four"]),
    (2_345_678, ["two million three hundred forty-five thousand six hundred seventy-eight", "2,345,678"]),
    (Fraction(1, 3), ["1/3", "a third", "one third", "one-third", "⅓", r"\tfrac{1}{3}"]),
    (
        Fraction(1, 2),
        ["half", "1/2", "0.5", ".5", "½", "one half", "a half", r"\frac{1}{2}", "half of the cake", "50/100"],
    ),
    (-8, ["-8", "minus eight", "negative eight", "−8", "– 8"]),
    (0, ["0", "zero", "-0", "0.00", "$0"]),
    (Fraction("3.1416"), ["3.1416", "3,1416"]),
    (Fraction("5.5"), ["$5.50", "5 dollars and 50 cents", "5,50 €", "5.5", "5 euros 50 cents"]),
    (11_111_111_100, [r"11,\! 111,\! 111,\! 100", r"11{,}111{,}111{,}100"]),
    (10, ["10minutes", "10 minutes", "10km"]),
    (10_000, ["$10k", "10,000", "10^4", "ten thousand", "1万", "10⁴"]),
]


@pytest.mark.parametrize(("value", "writings"), NUMBERS, ids=[str(value) for value, _ in NUMBERS])
def test_a_number_has_its_value_in_every_writing(value: Fraction | int, writings: list[str]) -> None:
    wrong = {text: parsed for text in writings if (parsed := parse_value(text)) is None or parsed.key != value}
    assert not wrong


# Each row has the writings of one answer that is no number; different rows are different answers.
ANSWERS = [
    ["1940-01-30", "January 30, 1940", "30 January 1940", "1/30/1940", "30.01.1940", "30. Januar 1940", "1940/01/30"],
    [
        "1940-03-28",
        "28 March 1940",
        "March 28th, 1940",
        "the 28th of March, 1940",
        "28 de marzo de 1940",
        "28 mars 1940",
    ],
    ["6/28/1972", "06/28/1972", "1972-06-28", "June 28, 1972", "28/6/1972", "28.6.1972", "Wednesday, June 28, 1972"],
    [
        "5 May 2020",
        "May 5, 2020",
        "2020-05-05",
        "5/5/2020",
        "May 5th 2020",
        "2020年5月5日",
        "5 mai 2020",
        "on May 5, 2020",
    ],
    ["20-Oct-56", "1956-10-20", "October 20, 1956", "20 October 1956", "Oct. 20, 1956", "10/20/56"],
    ["May 2020", "2020-05", "05/2020", "may, 2020", "mayo de 2020", "2020年5月"],
    ["May 5", "5 May", "5th of May", "May 5th", "5 de mayo", "5月5日"],
    ["2:30 pm", "14:30", "2:30 PM", "2:30 p.m.", "02:30 pm", "2.30pm", "14h30", "14.30 Uhr", "2:30PM.", "at 2:30 pm"],
    ["2:30 am", "2:30", "02:30", "2:30 a.m."],
    ["5 pm", "5:00 pm", "17:00", "5 p.m.", "5PM", "17 Uhr", "5 o'clock pm"],
    ["noon", "12:00", "12 pm", "12:00 PM", "midday"],
    ["May 5, 2020 2:30 pm", "2020-05-05T14:30", "2020-05-05 14:30"],
    [
        "2 hours and 45 minutes",
        "2 hours 45 minutes",
        "2h 45m",
        "2 hrs, 45 mins",
        "2:45 hours",
        "2 Stunden und 45 Minuten",
    ],
    ["1 hour 30 minutes", "1 h 30 min", "90 minutes 0 seconds", "1 hour and 30 minutes"],
    ["2 years and 3 months", "2 yrs 3 mos", "2 Jahre 3 Monate"],
    ["6 ft 2 in", "6'2\"", "6 feet 2 inches", "6′2″", "6 feet, 2 inches"],
    ["3-0", "3–0", "3 - 0", "3:0", "3 to 0"],
    ["4-1", "4:1"],
    ["2:1", "2 : 1", "2 to 1", r"$2:1$", "2∶1"],
    ["4:2", "4 to 2"],
    ["192.168.0.1"],
    ["192.168.0.2"],
    ["2001:db8::1", "2001:DB8::1"],
    ["v1.2.3", "1.2.3", "version 1.2.3"],
    ["1.2.4"],
    ["+1 (555) 123-4567", "+1 555-123-4567", "+1 555 123 4567", "+15551234567", "+1.555.123.4567"],
    ["(555) 123-4567", "555-123-4567", "555.123.4567"],
    ["555-123-4568"],
    ["3, 5", "5, 3", "3 and 5", "5 or 3", "x = 3 or x = 5", r"x=5, x=3", "{3, 5}", r"\{5, 3\}", "3; 5"],
    ["4 and 5", "4, 5"],
    ["(1, 2)", r"\left(1, 2\right)", "(1,2)"],
    ["(2, 1)"],
    ["[1, 2]"],
    ["3 apples and 5 pears", "5 pears and 3 apples"],
    ["5 apples and 3 pears"],
    ["A, C", "C and A", "(A) and (C)", "a, c", "A and C", "Ａ, Ｃ"],
    ["A", "(A)", "a", "Option A", "A)", "(A) 12 apples"],
    ["B", "Ｂ", "(b)", "choice b", "B."],
    ["Yes", "yes.", "True", "**Yes**", r"\textbf{Yes}", "Sí", "да"],
    ["No", "False", "nope", "Nein", "non", r"\boxed{\textbf{No}}"],
    ["2nd", "second", "the 2nd", "the second"],
    ["21st", "twenty-first"],
    ["12 Monkeys", "**12 Monkeys**"],
    ["A Tale of Two Cities", "a tale of two cities", "Tale of Two Cities", '"A Tale of Two Cities"'],
    ["True Grit"],
    ["No Country for Old Men"],
    ["J. K. Rowling", "J.K. Rowling", "JK Rowling", "J K Rowling"],
    ["the Miami Heat", "Miami Heat", "The Miami Heat."],
    ["George W. Bush", "George W Bush"],
    ["George H. W. Bush", "George HW Bush", "George H.W. Bush"],
    ["Mr. Watson", "Mr Watson", "Mister Watson"],
    ["Mrs. Watson"],
    ["St. Louis", "Saint Louis", "St Louis"],
    ["Dr. Martin Luther King, Jr.", "Martin Luther King Jr.", "Martin Luther King Jr"],
    ["Beyoncé", "Beyonce"],
    ["São Paulo", "Sao Paulo"],
    ["U.S.", "US"],
    ["U.S.A.", "USA"],
    ["C++"],
    ["C#"],
    ["One Hundred Years of Solitude"],
    ["Seven Samurai"],
    ["2001: A Space Odyssey"],
    ["Catch-22"],
    ["Apollo 11"],
    ["5x"],
    ["1011_2"],
    ["the 1990s", "1990s"],
    ["H2O", "H_2O"],
    ["HO2"],
    ["p - q", "p-q"],
    ["pq"],
    ["Jean-Paul Sartre", "Jean Paul Sartre"],
    ["2:15", "quarter past two", "2:15 am"],
    ["10:45", "a quarter to eleven", "10:45 AM"],
    ["3:2", "three to two"],
    ["12 Oak Street, 10003", "12 OAK STREET, 10003", "12 Oak Street 10003"],
    ["12 Oak Street, 10005"],
    ["18-20", "$18-$20"],
    ["A, B, D", "A, B and D", "Options A, B, and D", "(A), (B), (D)"],
    ["9am-5pm", "9 am to 5 pm", "9:00 AM - 5:00 PM", "from 9 a.m. to 5 p.m."],
    ["January 1, 2020 - May 5, 2020", "2020-01-01 to 2020-05-05"],
    ["Twelve Angry Men"],
    ["7 Up"],
    ["3:45 pm", "15 Uhr 45", "15:45 Uhr", "15:45"],
    ["44 BC", "44 BCE", "44 B.C."],
]


def _key(text: str) -> object:
    return read_value(text).key


@pytest.mark.parametrize("writings", ANSWERS, ids=[row[0] for row in ANSWERS])
def test_writings_of_one_answer_are_equal(writings: list[str]) -> None:
    assert {text: _key(text) for text in writings} == {text: _key(writings[0]) for text in writings}
    assert set(group_answers(writings)[0]) == {0}


def test_different_answers_are_different_in_every_writing() -> None:
    row_by_key: dict[object, str] = {value: str(value) for value, _ in NUMBERS}
    merged = [
        (text, row_by_key[_key(text)])
        for row in ANSWERS
        for text in row
        if row_by_key.setdefault(_key(text), row[0]) != row[0]
    ]
    assert not merged


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("18", "number"),
        ("50%", "percent"),
        ("$18", "money"),
        ("18 €", "money"),
        ("25 cm^2", "quantity"),
        ("3/4/2020", "date"),
        ("2:30 pm", "time"),
        ("January 1, 2020 - May 5, 2020", "date"),
        ("2 hours 45 minutes", "duration"),
        ("2:1", "ratio"),
        ("3-0", "score"),
        ("10.0.0.1", "address"),
        ("v2.0", "version"),
        ("555-123-4567", "phone"),
        ("(B)", "letter"),
        ("A and D", "letters"),
        ("Yes", "yes_no"),
        ("3, 5", "several"),
        ("second", "ordinal"),
        ("x+1", "formula"),
        (r"2\sqrt{3}", "formula"),
    ],
)
def test_a_whole_value_has_its_kind(text: str, kind: str) -> None:
    value = parse_value(text)
    assert value is not None
    assert value.kind == kind


@pytest.mark.parametrize(
    "text",
    [
        "12 Monkeys",
        "True Grit",
        "No Country for Old Men",
        "A Tale of Two Cities",
        "J. K. Rowling",
        "Paris",
        "Seven Samurai",
        "the answer is 12",
        "12 is even",
        "5 more than x",
        "4 out of 5",
        "May",
        "50 Cent",
        "7 Years in Tibet",
        "",
        "word " * 99,
    ],
)
def test_names_and_prose_are_no_typed_value(text: str) -> None:
    assert parse_value(text) is None


@pytest.mark.parametrize("text", ["\\", "$$", "**", "$\\$", "...", "()", "{", ""])
def test_what_is_left_of_a_cut_formula_is_no_answer(text: str) -> None:
    assert normalize(text) == ""


def test_a_comma_between_single_digits_is_a_decimal_only_where_a_unit_says_so() -> None:
    assert _key("3,5 kg") == Fraction(7, 2)
    assert _key("3,5") == _key("3, 5")
    assert _key("1,234") == 1234
    assert _key("0,345") == Fraction("0.345")


SCANNED = [
    ("$85.00 - $15.00 = $70.00", ["85", "15", "70"]),
    ("29 - 17 = 12", ["29", "17", "12"]),
    ("29 -17", ["29", "17"]),
    ("She has 16 eggs on May 5, 2020 at 2:30 pm.", ["16", "2020-05-05", "2:30 pm"]),
    ("an area of 25 cm^2 and 40 kg of CO2", ["25", "40"]),
    ("The ratio is 2:1, they won 3-0.", ["2:1", "3-0"]),
    ("16-3 = 13, so -13", ["16", "3", "13", "-13"]),
    ("1.5 × 10⁸ m and 10^{-3}", ["1.5*10^8", "10^-3"]),
    ("答案是5。", ["5"]),
    ("[1,2,3] and 1,234.5", ["1", "2", "3", "1234.5"]),
    (r"$\frac{3}{4}$ of 2 1/2 miles", ["3/4", "2 1/2"]),
    ("2½ cups", ["2 1/2"]),
    ("$5 million in 1990", ["5000000", "1990"]),
    ("call +1 (555) 123-4567", ["+1-555-123-4567"]),
    ("2x + 3y is the 4th", []),
    ("192.168.0.1", ["192.168.0.1"]),
    (r"-\$1100 or ₹12,34,567.", ["-1100", "1234567"]),
    ("It took 2 hours and 45 minutes.", ["2 hours 45 minutes"]),
    ("COVID-19", []),
    ("x^{10} and y_2", []),
    (r"50\% of 10,\!080", ["50", "10080"]),
    ("٣٫٥ and １２．５", ["3.5", "12.5"]),
    ("no value", []),
]


@pytest.mark.parametrize(("text", "values"), SCANNED, ids=[text for text, _ in SCANNED])
def test_the_values_in_a_text_are_each_as_long_as_they_can_be(text: str, values: list[str]) -> None:
    spans = list(scan_values(text))
    assert [value.text for _, _, value in spans] == values
    assert all(parse_value(text[start:end]) == value for start, end, value in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


HOSTILE = {
    name: (piece * 200_000)[:200_000]
    for name, piece in {
        "numbers": "1 ",
        "commas": "1,111",
        "points": "1.",
        "digits": "1",
        "signs": "-",
        "dollars": "$",
        "months": "may ",
        "fractions": "1/",
        "commands": r"\frac",
        "colons": "1:",
        "telephones": "+1 555 ",
        "words": "word ",
        "durations": "2 hours ",
        "brackets": "(1",
        "spaces": "1  ",
        "powers": "10^{",
        "hyphens": "1-",
        "vulgar": "½",
    }.items()
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_the_values_in_200_kb_of_anything_are_found_soon(text: str) -> None:
    started = time.process_time()
    for _ in scan_values(text):
        pass
    assert time.process_time() - started < 0.9  # 0.1 s on an idle core


PIECES = [
    *"0123456789.,:;-+/()[]{}$%'^_ abcmxhpA",
    *(
        " and ",
        " or ",
        " to ",
        " million",
        " hours",
        " minutes",
        " may",
        "May ",
        " 2020",
        " pm",
        " Monkeys",
        " Mr. ",
        "the ",
    ),
    *(
        "½",
        "²",
        "€",
        r"\frac{1}{2}",
        r"\$",
        r"\text{",
        "twelve",
        " dozen",
        "third",
        "-",
        "é",
        "st",
        "v",
        "+1 ",
        " ft",
        "'",
        '"',
        "x=",
    ),
]
WRITINGS = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)


@settings(max_examples=400, deadline=None)
@given(st.one_of(WRITINGS, st.sampled_from([text for row in ANSWERS for text in row])))
@example("(1,2 million, may 5)")
def test_a_canonical_text_is_read_as_the_same_value(text: str) -> None:
    value = read_value(text)
    again = read_value(value.text)
    assert (again.text, again.key) == (value.text, value.key)
    assert normalize(value.text) == normalize(text)

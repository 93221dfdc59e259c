"""Tests of reading answers in many languages, notations and kinds of value, as people and models write them.

Each value was worked out by hand; None where a reader must not read a piece.
"""

from __future__ import annotations

import time

import pytest

from swift_client.answers import are_equal, get_reader, read

WRITTEN: list[tuple[str, str, str | None]] = [
    ("auto", "Answer: 77 Elm Road, 10009", "77 elm road, 10009"),
    ("auto", "Answer: 25 42nd Street 10006", "25 42nd street 10006"),
    ("auto", "The answer is 25 42nd Street, 10006.", "25 42nd street, 10006"),
    ("auto", "The address is 31 2nd Avenue 10007.", None),
    ("auto", "So the answer is 71 Oak Street, 10019.", "71 oak street 10019"),
    ("auto", "Lösung: 3,5 km", "3.5 km"),
    ("auto", "Die Antwort lautet: 1.234,56 €", "1234.56"),
    ("auto", "La réponse est 12 500 habitants.", "12500"),
    ("auto", "La respuesta es 2 1/2 tazas.", "5/2"),
    ("auto", "Risposta: 3/4 di tazza", "3/4"),
    ("auto", "**Svar:** 17 kr", "17"),
    ("auto", "Ответ: 45 минут", "45"),
    ("auto", "Ответ: 2 часа 15 минут", "2 hours 15 minutes"),
    ("auto", "答案：３．５", "3.5"),
    ("auto", "答えは 42 です。", "42"),
    ("auto", "정답: 15개", "15"),
    ("auto", "الجواب هو ٤٢", "42"),
    ("auto", "Final answer: 7:45 p.m.", "19:45"),
    ("auto", "Answer: 18h30", "18:30"),
    ("auto", "Answer: March 3rd, 1999", "1999-03-03"),
    ("auto", "Antwort: 3. März 1999", "1999-03-03"),
    ("auto", "Réponse : le 14 juillet 1789", "1789-07-14"),
    ("auto", "Respuesta: 5 de mayo de 2020", "2020-05-05"),
    ("auto", "Answer: Dr. No", "dr. no"),
    ("auto", "Answer: J. R. R. Tolkien", "JRR Tolkien"),
    ("auto", "Answer: St. Petersburg", "st petersburg"),
    ("auto", "Answer: U.S. Virgin Islands", "us virgin islands"),
    ("auto", "Answer: A Beautiful Mind", "a beautiful mind"),
    ("auto", "Final Answer: 100 / 4 = 25 pages", "25"),
    ("auto", "Answer: $120 - $45 = $75", "75"),
    ("auto", "Answer: 3 × 4 + 2 = 14", "14"),
    ("auto", "ans: -7", "-7"),
    ("auto", "The answer is −7.", "-7"),
    ("auto", "The answer is \\(-\\frac{3}{4}\\).", "-3/4"),
    ("auto", "The answer is $\\$1{,}250$.", "1250"),
    ("auto", "The answer is 6.02 × 10^23.", "6.02e23"),
    ("auto", "The answer is 3.2 million people.", "3200000"),
    ("auto", "Answer: ¥12,000", "12000"),
    ("auto", "Answer: ₹1,50,000", "150000"),
    ("auto", "Answer: 9 m/s^2", "9"),
    ("auto", "Answer: 12 kg of CO2", "12"),
    ("auto", "Answer: 3:2", "3:2"),
    ("auto", "Answer: 4-1", "4-1"),
    ("auto", "Answer: 10.0.0.1", "10.0.0.1"),
    ("auto", "I computed 12. Wait, that's wrong. It should be 15.", "15"),
    ("auto", "Die Antwort ist 12. Moment, das ist falsch: es sind 15.", "15"),
    ("auto", "#### 42\n\nQuestion: What is 3 + 4?\nAnswer: 7", "42"),
    ("auto", "\\boxed{3} and \\boxed{5}", "3, 5"),
    ("auto", "so \\fbox{7}", "7"),
    ("auto", "Her total cost is therefore **$48**.", "48"),
    ("auto", '```json\n{"answer": "Lima"}\n```', "lima"),
    ("auto", '{"final_answer": 3.50}', "3.5"),
    ("auto", "<result>Blue whale</result>", "blue whale"),
    ("auto", "Answer:\n\nThe Rolling Stones", "rolling stones"),
    ("auto", "Answer: thirty-five", "35"),
    ("auto", "Answer: three quarters", "3/4"),
    ("auto", "Answer: 1/2 cup", "1/2"),
    ("auto", "Answer: 5'11\"", "5 ft 11 in"),
    ("auto", "Answer: 90°", "90"),
    ("auto", "Answer: −40 °C", "-40"),
    ("auto", "Answer: (555) 123-4567", "555-123-4567"),
    ("auto", "Answer: x = 4", "4"),
    ("auto", "Answer: 0.75 (75%)", "0.75"),
    ("choice", "Odpověď: C", "C"),
    ("choice", "Réponse : B", "B"),
    ("choice", "答案是（Ｄ）", "D"),
    ("choice", "The answer is A and C.", "A, C"),
    ("choice", "I'd go with (B).", "B"),
    ("choice", "Rätt svar: D", "D"),
    ("choice", "\\boxed{\\text{C}}", "C"),
    ("choice", "Ответ: Б", "Б"),
    ("yes_no", "Is it true or false? True.", "yes"),
    ("yes_no", "The claim is not true.", "no"),
    ("yes_no", "Nein, das stimmt nicht.", "no"),
    ("yes_no", "いいえ、違います。", "no"),
    ("yes_no", "Final answer: Absolutely not.", "no"),
    ("yes_no", "Correct, the sky is blue.", "yes"),
    ("yes_no", "答案：不是", "no"),
    ("yes_no", "\\boxed{\\text{Yes}}", "yes"),
    ("yes_no", "Non, ce n'est pas possible.", "no"),
    ("number", "She has 3 dogs and 4 cats, so 7 pets.", "7"),
    ("number", "It costs twenty dollars.", "20"),
    ("number", "Total: 1 234 567 people", "1234567"),
    ("number", "CO2 emission: 40 kg", "40"),
    ("number", "The area is 25 cm^2", "25"),
    ("number", "Answer: 2:30 pm", None),
    ("number", "The ratio is 2:1", None),
    ("number", "Answer: 12.5%", "12.5"),
    ("auto", "答え：2時間15分", "2 hours 15 minutes"),
    ("auto", "Svar: 1 timme och 30 minuter", "1 hour 30 minutes"),
    ("auto", "Answer: Dr. No", "Dr No"),
    ("auto", "Answer: 75% (0.75)", "75"),
    ("auto", "Answer: 1/2 (50%)", "1/2"),
    ("number", "I think it's forty-two.", "42"),
    ("number", "two hundred and five people came", "205"),
    ("number", "the first of them", None),
    ("auto", "Antwoord: 2,5 liter", "2.5"),
    ("auto", "Vastaus: 12 kpl", "12"),
    ("auto", "Odpowiedź: 7,5 zł", "7.5"),
    ("auto", "Đáp án: 35", "35"),
    ("auto", "Răspuns: 8 lei", "8"),
    ("auto", "Válasz: 1 500 Ft", "1500"),
    ("auto", "उत्तर: ४२", "42"),
    ("auto", "คำตอบคือ 42", "42"),
    ("auto", "תשובה: 42", "42"),
    ("auto", "Answer: CHF 1'250.50", "1250.5"),
    ("auto", "Answer: USD 3.5bn", "3500000000"),
    ("auto", "Answer: 12:00 noon", "12:00"),
    ("auto", "Answer: quarter past nine", "9:15"),
    ("auto", "Answer: 2024-W05", "2024-w05"),
    ("auto", "Answer: Q3 2023", "q3 2023"),
    ("auto", "Answer: 1990s", "1990s"),
    ("auto", "Answer: the 1990s", "1990s"),
    ("auto", "Answer: 44 BC", "44 bc"),
    ("auto", "Answer: Apollo 11", "apollo 11"),
    ("auto", "Answer: Boeing 747", "boeing 747"),
    ("auto", "Answer: 7 Up", "7 up"),
    ("auto", "Answer: U2", "u2"),
    ("auto", "Answer: 50 Cent", "50 cent"),
    ("auto", "Answer: Blink-182", "blink-182"),
    ("auto", "Answer: 101 Dalmatians", "101 dalmatians"),
    ("auto", "Answer: Mr. & Mrs. Smith", "mr & mrs smith"),
    ("auto", "Answer: E.T. the Extra-Terrestrial", "et the extra-terrestrial"),
    ("auto", "Answer: Washington, D.C.", "washington dc"),
    ("auto", "Answer: AC/DC", "ac/dc"),
    ("auto", "Answer: C#", "c#"),
    ("auto", "Answer: Node.js", "node.js"),
    ("auto", "Answer: v2.10.1", "2.10.1"),
    ("auto", "Answer: 3.0.1", "3.0.1"),
    ("auto", "Answer: example@mail.com", "example@mail.com"),
    ("auto", "Answer: https://example.com/a?b=1", "https://example.com/a?b=1"),
    ("auto", "Answer: 16 oz (1 lb)", "16 oz"),
    ("auto", "The answer is 12, not 15.", "12"),
    ("auto", "Answer: 12 (not 15)", "12"),
    ("auto", "The final answer is: $\\boxed{12}$. I hope it is correct.", "12"),
    ("auto", "**Answer: 12**", "12"),
    ("auto", "> **Answer**: `12`", "12"),
    ("auto", "Final answer → 12", "12"),
    ("auto", "Answer = 12 apples", "12"),
    ("auto", "### Final Answer\n\n$$x = 12$$", "12"),
    ("auto", "The correct answer would be 12.", "12"),
    ("auto", "So the answer must be 12.", "12"),
    ("auto", "My final answer: 12 🎉", "12"),
    ("auto", "Answer：12", "12"),
    ("auto", "(Answer: 12)", "12"),
    ("auto", "Thus, x = \\boxed{-\\dfrac{1}{2}}.", "-1/2"),
    ("auto", "\\boxed{1,000,000}", "1000000"),
    ("auto", "\\boxed{12\\%}", "12"),
    ("auto", "\\boxed{\\text{12 cm}}", "12"),
    ("auto", "\\boxed{12 \\text{ and } 15}", "12, 15"),
    ("auto", "Answer: 12 and 15", "15 and 12"),
    ("auto", "Answer: 12–15", "12-15"),
    ("auto", "Answer: 12 to 15", "12-15"),
    ("auto", "Answer: 1st", "1st"),
    ("auto", "Answer: first", "1st"),
    ("number", "Answer: about 12,5 kg", "12.5"),
    ("number", "12.", "12"),
    ("number", "It is .5", "0.5"),
    ("number", "x=3.", "3"),
    ("number", "5!", "5"),
    ("auto", "<ANSWER>12</ANSWER>", "12"),
    ("auto", "So: <Final_Answer> 12 </Final_Answer>", "12"),
    ("auto", "x [ANSWER]12[/ANSWER]", "12"),
    ("auto", "So it is 12 345 678.", "12345678"),
    ("number", "The total is 12 345 678 people.", "12345678"),
    ("auto", "It is \\boxed{2}. We proved that the answer is unique.", "2"),
    ("auto", "4.5 (approx. 5 people)", "4.5"),
    ("auto", "185 (160 + 25)", "185"),
    ("number", "3.6 hours (30 days * 3)", "3.6"),
    ("number", "-3 (There are 3 less apples)", "-3"),
    ("auto", "10GB", "10"),
    ("number", "It weighs 75kgs.", "75"),
    ("number", "Final Answer: 162/122 + 360/9", None),
    ("number", "Final Answer: 3 groups, with 0 eggs leftover", "3"),
    ("yes_no", 'Check it. [Yes] if 19121 is a prime number or "[No]" if it is not.', None),
    ("auto", "The smallest is 3. So \\[ 10 + (-4", None),
]


@pytest.mark.parametrize(("spec", "text", "value"), WRITTEN)
def test_an_answer_is_read_as_one_whole_value(spec: str, text: str, value: str | None) -> None:
    reader = get_reader(spec)
    assert reader is not None
    found = reader(text)
    if value is None:
        assert found is None
    else:
        assert found is not None
        assert value in (found, found.casefold()) or are_equal(found, value)


def test_a_letter_with_its_text_is_the_letter_if_others_answer_with_letters() -> None:
    assert read(["The answer is B", "Answer: B. Paris", "B", "Answer: A"], "auto").groups == (0, 0, 0, 1)
    assert read(["Answer: B. Obama", "Answer: M. Obama"], "auto").groups == (0, 1)


def test_texts_that_break_off_within_a_formula_do_not_count_against_the_others() -> None:
    broken = "First we add.\n\\[ 10 + (-4"
    assert read([broken, broken, broken, "The answer is 6."], "auto").values == (None, None, None, "6")
    assert (
        read(
            ["It depends on many things that nobody has told us about yet, so I cannot say."] * 3
            + ["The answer is 6."],
            "auto",
        ).values
        == (None,) * 4
    )


def solution(index: int) -> str:
    return (
        f"To find the total, we first look at what Ana has. She has {index} apples and buys 12 more at $3 each.\n\n"
        f"1. **Apples in all**: {index} + 12 = {index + 12}\n2. **Cost**: 12 * 3 = 36 dollars\n\n"
        "Then she gives a third of them to her brother, who had 4 of his own and eats one of them on the way home.\n\n"
    )


@pytest.mark.parametrize(
    "ending", ["Therefore, Ana has {} apples.", "The answer is {}.", "\\boxed{{{}}}", "#### {}", "So she pays **${}**."]
)
def test_16_answers_are_read_in_a_few_milliseconds(ending: str) -> None:
    texts = [solution(index) + ending.format(index % 3) for index in range(16)]
    seconds = []
    for _ in range(5):
        start = time.process_time()
        assert len(set(read(texts, "auto").groups)) == 3
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.015  # 3 ms on an idle core; the rest is for slow and busy machines

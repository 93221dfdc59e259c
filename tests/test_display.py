"""Tests of a Selection as table and HTML: completions must not act on a terminal or a browser."""

from __future__ import annotations

import io
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from swift_client.display import (
    escape_unsafe,
    selection_html,
    selection_table,
    summaries,
    summary,
    verification_summary,
    warnings,
)
from swift_client.errors import ServerError
from swift_client.types import Candidate, Completion, Failure, Selection, Usage, Verification

HOSTILE = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J [bold]not markup[/bold] [/] \u202egnp.exe\u202c \u200b \ud800 "
    "<script>alert(1)</script> <img src=x onerror='alert(2)'> & \"quoted\" </section></style>\r\n\x00"
)


def selection(*texts: str, winner: int = 0, note: str = "", error: str = "") -> Selection:
    """Build a selection of ``texts`` with scores -0, -1, -2, … ."""
    return Selection(
        candidates=tuple(
            Candidate(completion=Completion(text=text, index=i), score=-float(i), answer=text[:40], weight=1.0)
            for i, text in enumerate(texts)
        ),
        winner=winner,
        signal="logprobs:k=20",
        scorer="mean_logprob",
        method="vote",
        usage=Usage(prompt_tokens=1200, completion_tokens=34, calls=1),
        notes=(note,) if note else (),
        failures=(Failure(error=ServerError(error), lost=3),) if error else (),
    )


def printed(value: object, width: int = 100) -> str:
    """Print on a rich terminal without colours and return the printed characters."""
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None).print(value)
    return out.getvalue()


class Page(HTMLParser):
    """Collects tags, attributes and text as a browser would read them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.words = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@given(st.text())
def test_plain_text_holds_no_control_bidi_or_surrogate_character(text: str) -> None:
    unsafe_chars = [
        char for char in escape_unsafe(text) if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    ]

    assert set(unsafe_chars) <= set("\n\t\u200c\u200d")


def test_plain_keeps_ordinary_text_of_every_script() -> None:
    text = "naïve 東京 العربية हिन्दी 👩\u200d🔬 x² ≤ 3\n\tdone"

    assert escape_unsafe(text) == text


def test_plain_shows_what_it_neutralised() -> None:
    assert escape_unsafe("a\x1b[2Jb\u202ec\ud800") == "a\\x1b[2Jb\\u202ec\\ud800"


def test_table_sends_no_escape_of_a_completion_to_the_terminal() -> None:
    output = printed(selection_table(selection(HOSTILE)), width=400)

    assert "\x1b" not in output.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert "\x9b" not in output
    assert "\x07" not in output
    assert "\u202e" not in output


def test_table_does_not_interpret_rich_markup() -> None:
    output = printed(selection_table(selection("[bold red]x[/bold red] [/] [link=http://e.x]y[/link]")), width=200)

    assert "[bold red]x[/bold red] [/] [link=http://e.x]y[/link]" in output


def test_table_puts_the_winner_first_and_marks_right_and_wrong() -> None:
    lines = printed(
        selection_table(selection("alpha", "beta", winner=1), correct_by_index={0: False, 1: True})
    ).splitlines()

    assert "►" in lines[1]
    assert "✓ beta" in lines[1]
    assert "✗ alpha" in lines[2]


def test_table_says_how_many_rows_it_leaves_out() -> None:
    assert "and 3 more" in printed(selection_table(selection("a", "b", "c", "d", "e"), max_rows=2))


def test_completions_that_did_not_end_say_so() -> None:
    cut_selection = Selection(
        candidates=(Candidate(completion=Completion(text="half an", finish_reason="length")),),
        winner=0,
        signal="text",
        scorer="shortest",
        method="best",
    )

    assert "[cut] half an" in printed(selection_table(cut_selection))
    assert "[cut] half an" in Page(selection_html(cut_selection)).words
    assert "–" in printed(selection_table(cut_selection))


def test_html_shows_hostile_text_as_text() -> None:
    page = Page(selection_html(selection(HOSTILE, note=HOSTILE, error=HOSTILE)))

    assert set(page.tags) <= {
        *("section", "style", "p", "details", "summary"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert page.attributes <= {"class", "dir"}
    assert page.words.count("<script>alert(1)</script>") >= 4
    assert page.open == []


@given(st.text(max_size=80))
def test_html_is_well_formed_and_loses_no_word(text: str) -> None:
    page = Page(selection_html(selection(text, "other")))

    assert page.open == []
    assert escape_unsafe(text).replace("\x00", "") in page.words


def test_html_is_self_contained_and_knows_light_and_dark() -> None:
    html = selection_html(selection("42"))

    assert "prefers-color-scheme:dark" in html
    assert "http" not in html
    assert "url(" not in html


def test_notebooks_show_the_html() -> None:
    result = selection("42")

    assert result._repr_html_() == selection_html(result)


def test_notes_and_failures_are_shown_with_what_was_lost() -> None:
    result = selection("42", note="answers could not be read", error="The server broke.")

    assert warnings(result) == ["answers could not be read", "3 of the completions lost: The server broke."]
    assert (
        "chosen by vote among 1 · scorer mean_logprob · signal logprobs:k=20 · "
        "1,200 prompt + 34 completion tokens · 1 call" in summary(result)
    )


@pytest.mark.parametrize("character", ["a", "\x1b", '"', "\U0001f600", "\u202e"])
def test_html_of_huge_completions_is_small_and_says_what_it_leaves_out(character: str) -> None:
    texts = [character * 200_000] * 3 + ["x"] * 500
    many_notes = replace(selection(*texts), notes=tuple(character * 5_000 for _ in range(500)))
    html = selection_html(many_notes)

    assert len(html.encode()) < 1_000_000
    page = Page(html)
    assert page.open == []
    assert "and 180,000 more characters" in page.words
    assert "503 candidates, of which 64 are shown" in page.words
    assert "and 468 more notes" in page.words


# --- judgements ------------------------------------------------------------------------------------------------------


def judged(*judgements: float | None, judge: str = "openai/gpt-4.1-nano") -> Selection:
    """Build a selection whose answers a verifier judged by six calls, of which one failed."""
    plain = selection(*(f"text {i}" for i in range(len(judgements))))
    candidates = [
        replace(candidate, verifier_score=judgement)
        for candidate, judgement in zip(plain.candidates, judgements, strict=True)
    ]
    verification = Verification(
        judge=judge,
        mode="p_true",
        judged=sum(judgement is not None for judgement in judgements),
        calls=6,
        usage=Usage(prompt_tokens=4_812, completion_tokens=6, calls=6),
        cost=0.00048,
        confidence=0.8731,
        failures=(Failure(error=ServerError("down"), lost=1),),
    )
    return replace(plain, candidates=tuple(candidates), verification=verification)


def test_one_line_has_everything_about_a_verification() -> None:
    result = judged(0.9, 0.25, None)

    assert result.verification is not None
    line = verification_summary(result.verification)
    assert line == (
        "verifier openai/gpt-4.1-nano (p_true): 2 answers judged · 6 calls · 4,812 prompt + 6 completion tokens "
        "($0.00048) · confidence 0.873 · 1 verdict failed"
    )
    assert summaries(result) == [summary(result), line]
    assert line in str(result).splitlines()
    assert "judgement 0.900" in str(result)
    assert line in Page(selection_html(result)).words


@pytest.mark.parametrize(
    ("verification", "words"),
    [
        (Verification(judge="a/m", mode="score", confidence=0.95), "(score): not asked · confidence 0.950 without it"),
        (Verification(judge="a/m", mode="score", calls=1), "(score): no judgement · 1 call · 0 prompt"),
        (Verification(judge="a/m", mode="score", judged=1, calls=1), "1 answer judged · 1 call"),
    ],
)
def test_a_verifier_that_judged_nothing_says_so(verification: Verification, words: str) -> None:
    assert words in verification_summary(verification)


def test_tables_have_judgements_only_if_there_are_any() -> None:
    for result, shown in ((judged(0.9, 0.25, None), True), (judged(None, None), False), (selection("a"), False)):
        page = selection_html(result)
        assert ("verifier</th>" in page) == shown
        header, *rows = printed(selection_table(result)).splitlines()
        assert ("verifier" in header) == shown
        assert ("0.250" in "".join(rows)) == shown


def test_the_name_of_a_judge_is_text() -> None:
    result = judged(0.9, 0.2, judge=HOSTILE.replace("/", "") + "x" * 500)

    assert result.verification is not None
    line = verification_summary(result.verification)
    assert line.isprintable()
    assert len(line) < 400
    assert line in Page(selection_html(result)).words
    assert len(str(result).splitlines()) <= 10


def test_text_with_everything_has_ten_lines() -> None:
    result = replace(judged(0.9, 0.2), notes=tuple(f"note {i}" for i in range(9)))
    long = replace(result.candidates[0], completion=Completion(text="\n".join("abcdefgh")))

    assert len(str(replace(result, candidates=(long, result.candidates[1]))).splitlines()) == 10

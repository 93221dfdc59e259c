"""Tests of the report: no active content, every number of the evaluation, and a plain verdict on the head."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swift_client.cli.app import run
from swift_client.cli.evaluate import _render
from swift_client.cli.output import show
from swift_client.errors import ArtifactMismatchError, ConfigurationError, MissingExtraError
from swift_client.evaluation.advice import advise
from swift_client.evaluation.evaluate import evaluate
from swift_client.evaluation.headline import headline
from swift_client.features import token_features
from swift_client.models import (
    GatedLinearHead,
    HeadArtifact,
    PlattCalibration,
    ResponseWeights,
    save,
)
from swift_client.models.artifact import NOT_BETTER_VERDICT
from swift_client.models.gated_linear import Standardizer
from swift_client.report import summary
from swift_client.report.charts import accuracy as curves
from swift_client.report.charts.calibration import probability_counts
from swift_client.report.charts.chart import HEIGHT, LINE_HEIGHT, PAGE_WIDTH, spread_labels, ticks
from swift_client.report.charts.forest import forest
from swift_client.report.examples import OUTCOME_SCHEDULE, compare_with_majority
from swift_client.report.page import SampleFacts, render_page
from swift_client.report.report import write_report
from swift_client.report.token_heatmap import MAX_SHOWN_TOKENS, weigh_tokens
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.training import Estimate, Evaluation, Group, report
from swift_client.training.metrics import Reliability
from swift_client.types import Completion, Usage

from .graded import WORDS, graded_groups

HOSTILE = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \u202egnp.exe\u202c \u2066 \ud800 \x00 </style></title></p></body> "
    "<script>alert(1)</script> <img src=x onerror='alert(2)'> \" onload=\"alert(3) ' <!-- ]]> &lt;b&gt; http://e.example"
)
MINUS = "\N{MINUS SIGN}"


class Page(HTMLParser):
    """The content of a page, parsed as a browser does; raises for an element that is not closed correctly."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.words, self.open = "", list[str]()
        self.tokens: list[tuple[str, str]] = []
        """Each token's title and text."""
        self.rows: list[str] = []
        """The words of each table row."""
        self.labels: list[list[float]] = []
        """Heights of the lines' labels of each chart."""
        self._title = self._place = None
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append("")
        if tag == "svg":
            self.labels.append([])
        self._title = facts.get("title") if tag == "i" else None
        self._place = float(facts["y"] or 0) if tag == "text" and "label" in (facts.get("class") or "") else None

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag != "meta":
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._title = self._place = None

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data
        if "tr" in self.open:
            self.rows[-1] += f"{data} "
        if self._title is not None:
            self.tokens.append((self._title, data))
        if self._place is not None:
            self.labels[-1].append(self._place)

    def row(self, label: str) -> str:
        """Return the words of all table rows that begin with ``label``."""
        rows = [row for row in self.rows if row.startswith(label)]
        assert rows, label
        return " ".join(rows)


@cache
def a_head() -> HeadArtifact:
    return HeadArtifact(
        features=("logprob", "entropy"),
        width=8,
        standardizer=Standardizer(mean=[-0.7, 0.8], scale=[0.9, 0.5]),
        head=GatedLinearHead(gate_weight=[-0.8, 0.6], gate_bias=-0.3, reward_weight=[1.1, -0.7], reward_bias=0.2),
        response_terms=("log_length", "sum_logprob"),
        response=ResponseWeights(mean=[2.0, -7.0], scale=[0.3, 4.0], weight=[-0.2, 0.5]),
        calibration=PlattCalibration(a=1.3, b=0.1),
        provider="p",
        model="m",
        k_min=2,
        k_max=8,
        training={"recipe": "default", "seed": 3, "questions": {"train": 40}, "verdict": "better than chance"},
        licence="CC0-1.0",
    )


def evaluation(groups: Sequence[Group], head: HeadArtifact | None = None, ns: Sequence[int] = (1, 2, 4)) -> Evaluation:
    return evaluate(head or a_head(), groups, split="all", ns=ns, subsets=20, resamples=50, trained=False)


def document(
    groups: Sequence[Group],
    head: HeadArtifact | None = None,
    results: Evaluation | None = None,
    questions: Mapping[str, StoredQuestion] | None = None,
) -> str:
    head = head or a_head()
    results = results or evaluation(groups, head)
    return render_page(results, head, compare_with_majority(head, groups, answer="auto"), questions or {})


@cache
def usual() -> tuple[tuple[Group, ...], Evaluation, str]:
    groups = tuple(graded_groups(40))
    results = evaluation(groups)
    return groups, results, document(groups, results=results)


def hostile(group: Group) -> Group:
    def spoil(completion: Completion) -> Completion:
        tokens = (HOSTILE, *completion.tokens[1:-1], "\n<b>")
        return replace(completion, tokens=tokens, text=f"{HOSTILE} The answer is {HOSTILE}")

    text_completion = Completion(text=HOSTILE, index=5)
    completions = (*map(spoil, group.completions[:5]), text_completion)
    return replace(group, completions=completions, question_id=HOSTILE + group.question_id, family=HOSTILE)


def test_hostile_text_appears_as_text_and_does_nothing() -> None:
    groups = [hostile(group) for group in graded_groups(12)]
    head = replace(a_head(), model=HOSTILE, licence=HOSTILE, training={HOSTILE: {"of": [HOSTILE]}, "verdict": HOSTILE})
    results = replace(evaluation(groups, head), notes=(HOSTILE,))
    results = replace(results, rows=tuple(replace(row, label=f"{row.label} {HOSTILE}") for row in results.rows))
    messages = [
        StoredQuestion(
            id=group.question_id,
            messages=({"role": HOSTILE, "content": HOSTILE}, {"role": "user", "content": [{"type": HOSTILE}, HOSTILE]}),
            answer=HOSTILE,
        )
        for group in groups
    ]

    html = document(groups, head, results, {question.id: question for question in messages})
    page = Page(html)

    assert page.tags <= {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "article", "footer", "figure"),
        *("figcaption", "h1", "h2", "h3", "p", "ul", "li", "details", "summary", "div", "span", "b", "i", "small"),
        *("table", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd"),
        *("svg", "g", "path", "line", "circle", "rect", "polygon", "text"),
    }
    assert page.attributes.keys() <= {
        *("lang", "charset", "http-equiv", "content", "name", "class", "title", "dir", "open", "scope", "colspan"),
        *("tabindex", "viewbox", "role", "d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height"),
        *("points", "text-anchor", "data-label"),
    }
    assert page.words.count("<script>alert(1)</script>") > 100
    assert {char for char in html if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")} == {"\n"}
    assert "\\x1b[31mred" in page.words
    assert "\\u202egnp.exe" in page.words


def test_advice_that_quotes_a_hostile_head_and_hostile_file_names_are_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    groups, results, _ = usual()
    mean = {"value": 0.01, "low": -0.01, "high": 0.02}
    facts = {"verdict": NOT_BETTER_VERDICT, "comparison": {"label": HOSTILE, "questions": 50, "mean": mean}}
    results = replace(results, head=facts, provider="p", model=HOSTILE)
    samples = SampleFacts(files=(HOSTILE,), temperature=HOSTILE, date=HOSTILE)

    html = render_page(results, a_head(), compare_with_majority(a_head(), groups, answer="auto"), {}, samples)
    show(*_render(results))
    printed = capsys.readouterr().out

    assert Page(html).words.count("<script>alert(1)</script>") == 5
    assert "script" not in Page(html).tags
    assert "Do not use this head" in printed
    assert "\x1b" not in printed
    assert "\u202e" not in printed


@given(st.text(max_size=60))
def test_any_text_leaves_the_page_well_formed(text: str) -> None:
    groups = graded_groups(1)
    completions = tuple(
        replace(completion, text=text, tokens=(text, *completion.tokens[1:])) for completion in groups[0].completions
    )

    Page(document([replace(groups[0], completions=completions)], results=usual()[1])).words.encode()


def test_the_page_needs_nothing_else_and_forbids_it() -> None:
    html = usual()[2]
    page = Page(html)

    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert policy.start() < html.index("<style>")
    assert not page.attributes.keys() & {"href", "src", "srcset", "action", "style", "xlink:href"}
    assert not re.search(r"url\(|@import|https?:|//[a-z]", html)
    assert "<script" not in html


def token_part(head: HeadArtifact, completion: Completion) -> float:
    """Return the gated mean of a completion's rewards, token by token."""
    values = head.standardizer(token_features([completion], head.features, width=8).values)
    pairs = list(zip(head.head.token_gates(values), head.head.token_rewards(values), strict=True))
    return float(sum(gate * reward for gate, reward in pairs) / sum(gate for gate, _ in pairs))


def test_token_numbers_are_the_heads_own() -> None:
    groups, _, html = usual()
    head, by_id = a_head(), {group.question_id: group for group in groups}
    expected = []
    examples = compare_with_majority(head, groups, answer="auto").examples
    question_means = {
        example.question_id: np.mean(
            [token_part(head, completion) for completion in by_id[example.question_id].completions[:4]]
        )
        for example in examples
    }
    for example in examples:
        for completion in by_id[example.question_id].completions[:4]:
            values = head.standardizer(token_features([completion], head.features, width=8).values)
            gates, rewards = head.head.token_gates(values), head.head.token_rewards(values)
            mean = question_means[example.question_id]
            for token, logprob, gate, reward in zip(
                completion.tokens, completion.logprobs, gates, rewards, strict=True
            ):
                share = gate / gates.mean()
                expected.append(
                    f"{token}\nlogprob {logprob:.3f}\ngate {gate:.3f} ({share:.2f} of the mean)\n"
                    f"reward {reward:.3f}\ngate × reward {gate * reward:.3f}\n"
                    f"colour {share * (reward - mean):.3f}".replace("-", MINUS)
                )

    assert [title for title, _ in Page(html).tokens] == expected
    assert len(expected) > 200


def test_what_tokens_bring_and_the_whole_answer_adds_is_the_score() -> None:
    groups = graded_groups(20)
    terms = replace(a_head(), response_terms=(), response=ResponseWeights(mean=[], scale=[], weight=[]))
    for example in compare_with_majority(terms, groups, answer="auto").examples:
        for candidate, parts in zip(example.selection.candidates, weigh_tokens(terms, example.selection), strict=True):
            assert parts is not None
            assert parts.deviations(0.3).mean() == pytest.approx(parts.gated_mean - 0.3, rel=1e-9)
            assert parts.gated_mean == pytest.approx(candidate.score, rel=1e-5, abs=1e-6)


def test_completions_without_logprobs_show_their_text_and_lists_are_read_to_the_shortest() -> None:
    group = graded_groups(1)[0]
    short = replace(group.completions[1], top_logprobs=group.completions[1].top_logprobs[:, :3])
    text_completion = Completion(text="nothing <i>known</i>", index=0)
    group = replace(group, completions=(text_completion, short, *group.completions[2:]))
    selection = compare_with_majority(a_head(), [group], answer="auto").examples[0].selection
    parts = weigh_tokens(a_head(), selection)

    assert parts[0] is None
    assert selection.candidates[0].score is None
    values = a_head().standardizer(token_features([group.completions[2]], a_head().features, k=3, width=8).values)
    assert parts[2] is not None
    assert np.array_equal(parts[2].gates, a_head().head.token_gates(values))
    assert "nothing <i>known</i>" in Page(document([group])).words


def test_examples_show_the_stored_judgements_of_their_candidates() -> None:
    group = graded_groups(1)[0]
    judgements = np.linspace(0.0625, 0.9375, len(group.completions))
    judgements[1] = np.nan
    judged = replace(group, verifier_scores={"openai/judge p_true v1": judgements})
    candidates = compare_with_majority(a_head(), [judged], answer="auto").examples[0].selection.candidates

    assert [candidate.verifier_score for candidate in candidates] == [
        None if math.isnan(value) else value for value in judgements[: len(candidates)].tolist()
    ]
    words = Page(document([judged])).words
    assert words.count("verifier") > Page(document([group])).words.count("verifier")
    assert "0.06" in words


def test_every_number_of_the_evaluation_is_in_a_table() -> None:
    _, results, html = usual()
    page = Page(html)

    def number(value: float | None, form: str, times: float = 1.0) -> str:
        if value is None:
            return "–"
        return format(round(times * value, 1 if "1f" in form else 3) + 0.0, form).replace("-", MINUS)

    for row in results.rows:
        table_row = page.row(row.label)
        for n in results.ns:
            accuracy, difference = row.accuracy[n], row.minus_label_free[n]
            assert number(accuracy.value, ".1f", 100) in table_row
            assert f"{number(accuracy.low, '.1f', 100)} to {number(accuracy.high, '.1f', 100)}" in table_row
            assert f"gap closed {number(row.gap_closed[n], '.1f', 100)}" in table_row
            if row.name != results.label_free and (difference.low or difference.high):
                low, high = (
                    number(bound, "+.1f", 100).replace("+0.0", "0.0") for bound in (difference.low, difference.high)
                )
                assert number(difference.value, "+.1f", 100).replace("+0.0", "0.0") in table_row
                assert f"{low} to {high}" in table_row
        if row.within_question_auroc is not None:
            auroc = row.within_question_auroc
            assert f"{number(auroc.low, '.3f')} to {number(auroc.high, '.3f')}" in table_row
            for value in (
                auroc.value,
                row.pooled_auroc,
                row.brier,
                row.ece,
                *row.brier_at.values(),
                *row.ece_at.values(),
            ):
                assert number(value, ".3f") in table_row
    for n in results.ns:
        assert f"{results.tokens[n]:,.0f}" in page.row("Completion tokens per question")
    for fact in ("CC0-1.0", "2 to 8", "default", "40", "logprob, entropy"):
        assert fact in page.words
    assert "+0.500" in page.row("sum logprob")


def test_numbers_that_are_not_known_are_dashes() -> None:
    groups, results, _ = usual()
    unknown = Estimate(math.nan, math.nan, math.nan)
    rows = tuple(
        replace(
            row,
            accuracy=dict.fromkeys(results.ns, unknown),
            minus_majority=dict.fromkeys(results.ns, unknown),
            minus_label_free=dict.fromkeys(results.ns, unknown),
            gain=unknown,
            gap_closed=dict.fromkeys(results.ns),
            within_question_auroc=unknown,
            pooled_auroc=math.nan,
            brier=None,
            ece=math.nan,
            brier_at={},
            ece_at={2: math.nan},
        )
        for row in results.rows
    )
    nothing = replace(results, rows=rows, tokens=dict.fromkeys(results.ns, math.nan), reliability=None)

    page = Page(document(groups, results=nothing))

    assert not re.search(r"\b(nan|none|inf)\b", page.words.lower().replace("none of", ""))
    assert 'its difference to "Default without a head" is unknown' in page.words
    assert "There is nothing to draw." in page.words


def test_one_question_with_one_completion_makes_a_page() -> None:
    group = graded_groups(1)[0]
    single_group = replace(group, completions=group.completions[:1], labels=group.labels[:1])

    page = Page(document([single_group], results=evaluation([single_group], ns=(1,))))

    assert "one per question leaves nothing to choose" in page.words
    assert "1 question " in page.words


def test_a_reliability_of_one_bin_and_scores_all_alike_are_drawn() -> None:
    group = graded_groups(1)[0]
    twins = replace(group, completions=tuple(replace(group.completions[0], index=index) for index in range(6)))
    one = Reliability(predicted=np.array([0.4]), observed=np.array([1.0]), counts=np.array([6]))

    page = Page(document([twins], results=replace(evaluation([twins]), reliability=one)))

    assert "said 40.0\N{NO-BREAK SPACE}%, came true 100.0\N{NO-BREAK SPACE}%, 6 completions" in page.words


def test_the_page_begins_with_the_advice_and_what_was_measured() -> None:
    groups, results, _ = usual()
    facts = SampleFacts(files=("a.db", "<b>.db"), temperature="0.8, 1", date="2026-11-30")
    comparison = compare_with_majority(a_head(), groups, answer="auto")
    page = Page(render_page(replace(results, provider="p", model="m<i>"), a_head(), comparison, {}, facts))
    words = " ".join(page.words.replace("\N{NO-BREAK SPACE}", " ").replace(MINUS, "-").split())

    assert str(advise(results)) in words
    for text in (
        "Modelp/m<i>",
        "Questionsall 40 questions of the files given",
        "n1, 2, 4, drawn from 6 stored completions per question",
        "Temperature0.8, 1",
        "Samplesa.db, <b>.db",
        "Date2026-11-30",
    ):
        assert text in words


def test_the_comparison_with_the_best_label_free_rule_is_the_first_table() -> None:
    _, results, html = usual()
    comparison = headline(results)
    rows = [" ".join(row.replace(MINUS, "-").split()) for row in Page(html).rows]

    assert rows[0] == "Head’s vote Best label-free Gain Majority Any of n"
    for table_row, row in zip(rows[1:], comparison.rows, strict=False):
        gain = row.gain
        numbers = [100 * value for value in (row.vote, row.rule)]
        assert table_row == (
            f"n = {row.n} {numbers[0]:.1f} {numbers[1]:.1f} {plus(gain.value)} {plus(gain.low)} to {plus(gain.high)} "
            f"{100 * row.majority:.1f} {100 * row.any_right:.1f}"
        )
    gain = comparison.gain
    assert rows[len(comparison.rows) + 1] == f"mean {plus(gain.value)} {plus(gain.low)} to {plus(gain.high)}"


def plus(share: float) -> str:
    """Format a difference in points, as the page does."""
    return f"{round(100 * share, 1) + 0.0:+.1f}".replace("+0.0", "0.0")


def test_the_chart_of_differences_has_every_method_at_every_n_where_its_numbers_are() -> None:
    results = usual()[1]
    picture = ElementTree.fromstring(forest(results))  # noqa: S314
    titles = [title.text or "" for title in picture.iter("title")][1:]
    marks = [(group.find("line"), group.find("circle")) for group in picture.iter("g")]

    methods = {"head, vote": "head_vote", "head, best": "head", "majority": "majority"}
    expected = [
        f"{label}, {place}: {plus(estimate.value)} ({plus(estimate.low)} to {plus(estimate.high)})"
        for place, values in [
            ("mean of n = 2, 4", {name: results.row(name).gain for name in methods.values()}),
            ("n = 2", {name: results.row(name).minus_label_free[2] for name in methods.values()}),
            ("n = 4", {name: results.row(name).minus_label_free[4] for name in methods.values()}),
        ]
        for label, name in methods.items()
        if (estimate := values[name]) is not None
    ]
    assert results.label_free == "default"
    assert [title.replace(MINUS, "-") for title in titles] == expected
    # Equal steps of the data are equal steps of the picture.
    shares = [value for name in methods.values() for value in [results.row(name).gain] if value is not None]
    places = [(line, circle) for line, circle in marks[: len(shares)]]
    scale = {
        round((float(line.get("x2") or 0) - float(line.get("x1") or 0)) / (share.high - share.low))
        for share, (line, _) in zip(shares, places, strict=True)
        if line is not None and share.high - share.low > 0.01
    }
    assert len(scale) == 1 or max(scale) - min(scale) < 0.02 * max(scale)
    for line, circle in marks:
        assert line is not None
        assert circle is not None
        assert float(line.get("x1") or 0) <= float(circle.get("cx") or 0) <= float(line.get("x2") or 0)
        assert 0 <= float(line.get("x1") or 0) <= float(line.get("x2") or 0) <= PAGE_WIDTH


def test_the_chart_of_differences_without_any_says_so() -> None:
    results = evaluation(usual()[0], ns=(1,))

    assert "There is nothing to draw." in forest(results)


def test_the_bars_below_the_calibration_count_the_completions() -> None:
    probabilities = np.array([0.05] * 3 + [0.1] * 2 + [0.95, 1.0, math.nan] + [0.55] * 1234)
    picture = ElementTree.fromstring(probability_counts(probabilities))  # noqa: S314
    counts = [text.text for text in picture.iter("text") if text.get("class") == "count"]

    assert counts == ["3", "2", "0", "0", "0", "1.2k", "0", "0", "0", "2"]
    assert "No completion has a probability." in probability_counts(np.array([math.nan]))


def test_probabilities_that_are_counted_are_those_of_complete_completions() -> None:
    groups = graded_groups(5)
    groups[0] = replace(
        groups[0],
        completions=(replace(groups[0].completions[0], finish_reason="length"), *groups[0].completions[1:]),
    )
    comparison = compare_with_majority(a_head(), groups, answer="auto")

    assert len(comparison.probabilities) == len(comparison.scores) == 30
    assert np.isnan(comparison.probabilities).sum() == 1


def test_each_number_of_a_wide_table_has_the_name_of_its_column_for_narrow_screens() -> None:
    html = usual()[2]
    tables = re.findall(r'<div class="scroll" tabindex="0"><table>.*?</table>', html, re.DOTALL)
    cells = [re.findall(r"<td[^>]*>", table) for table in tables]

    assert [len(found) > 0 for found in cells] == [True] * 4
    for found in cells[:3]:
        assert all("data-label=" in cell for cell in found)
    assert "max-width: 44rem" in html


def test_the_cost_chart_says_with_how_many_tokens_the_head_is_as_good_as_majority_with_most() -> None:
    results = usual()[1]
    accuracies = {1: Estimate(0.5, 0.4, 0.6), 2: Estimate(0.7, 0.6, 0.8), 4: Estimate(0.7, 0.6, 0.8)}
    rows = tuple(replace(row, accuracy=accuracies) for row in results.rows if row.name in ("majority", "head_vote"))
    text = curves.describe_token_savings(replace(results, rows=rows, tokens={1: 10.0, 2: 20.0, 4: 40.0}))

    assert "n = 2 is right at least as often as majority with n = 4, for 50\N{NO-BREAK SPACE}%" in text
    weaker_rows = tuple(
        replace(row, accuracy={**accuracies, 2: accuracies[1]}) if row.name == "head_vote" else row for row in rows
    )
    assert curves.describe_token_savings(replace(results, rows=weaker_rows)) == ""


def test_the_lead_gives_the_numbers_at_four_and_whether_training_saw_the_questions() -> None:
    results = usual()[1]
    vote, majority, first = (results.row(name) for name in ("head_vote", "majority", "first"))

    text = summary.summary(replace(results, split="test")).replace("\N{NO-BREAK SPACE}", " ")

    assert "from n = 4" in text
    right = f"{100 * vote.accuracy[4].value:.1f} %"
    assert f"the head’s vote is right on {right} of 40 questions that training never saw" in text
    assert f"majority vote on {100 * majority.accuracy[4].value:.1f} %" in text
    assert f"one answer alone on {100 * first.accuracy[1].value:.1f} %" in text
    assert "which the head was fitted on" in summary.summary(replace(results, split="train"))


def test_examples_are_picked_in_turn_and_outcomes_are_counted_over_all_questions() -> None:
    groups = graded_groups(200, signal=0.3)
    comparison = compare_with_majority(a_head(), reversed(groups), answer="auto")
    kinds = [example.outcome for example in comparison.examples]

    assert sum(comparison.outcomes.values()) == 200
    assert min(comparison.outcomes.values()) >= 3
    assert sorted(kinds) == sorted(OUTCOME_SCHEDULE)
    assert len(comparison.scores) == len(comparison.labels) == 1200
    assert [example.question_id for example in comparison.examples] == [
        example.question_id for example in compare_with_majority(a_head(), groups, answer="auto").examples
    ]
    by_id = {group.question_id: group for group in groups}
    for example in comparison.examples:
        right = by_id[example.question_id].labels[:4]
        head_right, majority_right = right[example.selection.winner] == 1, right[example.majority_winner] == 1
        votes = [candidate.answer for candidate in example.selection.candidates]
        assert votes.count(votes[example.majority_winner]) == max(map(votes.count, votes))
        assert {
            "gained": head_right and not majority_right,
            "lost": majority_right and not head_right,
            "missed": not head_right and not majority_right and right.any(),
            "both": head_right and majority_right,
            "none": not right.any(),
        }[example.outcome]


def test_kinds_that_have_no_more_question_leave_their_turn_to_others() -> None:
    unsolved_groups = [replace(group, labels=np.zeros(6)) for group in graded_groups(12)]

    assert [
        example.outcome for example in compare_with_majority(a_head(), unsolved_groups, answer="auto").examples
    ] == ["none"] * 10


def test_ten_long_examples_make_less_than_a_megabyte_and_say_what_is_left_out() -> None:
    def lengthen(completion: Completion) -> Completion:
        times = 2000 // len(completion.tokens) + 1
        return replace(
            completion,
            text=f"{''.join(completion.tokens * times)} {completion.text}",
            tokens=completion.tokens * times,
            logprobs=np.tile(completion.logprobs, times),
            top_logprobs=np.tile(completion.top_logprobs, (times, 1)),
            censored=np.tile(completion.censored, times),
        )

    groups = [
        replace(group, completions=tuple(map(lengthen, group.completions[:4])), labels=group.labels[:4])
        for group in graded_groups(12)
    ]
    html = document(groups, results=usual()[1])

    assert len(html.encode()) < 1_000_000
    assert len(Page(html).tokens) == 10 * 4 * MAX_SHOWN_TOKENS
    assert re.search(r"1,8\d\d tokens left out", Page(html).words)


def test_labels_at_the_ends_of_lines_do_not_overlap() -> None:
    charts = Page(usual()[2]).labels

    assert sorted(map(len, charts))[-2:] == [2, 6]
    for places in charts:
        assert np.all(np.diff(sorted(places)) >= LINE_HEIGHT - 0.11)  # coordinates have one decimal
        assert all(0 < place < HEIGHT for place in places)


@given(st.lists(st.floats(-50, 350), max_size=12), st.floats(200, 400))
def test_labels_are_kept_apart_in_their_order_and_inside(positions: list[float], high: float) -> None:
    spread_positions = spread_labels(positions, 0.0, high, 15.0)

    assert all(-1e-6 <= place <= high + 1e-6 for place in spread_positions)
    assert np.all(np.diff(sorted(spread_positions)) >= 15.0 - 1e-6)
    pairs = [(a, b) for a in range(len(positions)) for b in range(len(positions)) if positions[a] < positions[b]]
    assert all(spread_positions[a] < spread_positions[b] for a, b in pairs)
    if positions and min(positions) > 0 and max(positions) < high and np.all(np.diff(sorted(positions)) > 15.0):
        assert spread_positions == pytest.approx(positions)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 9))
def test_ticks_are_round_evenly_spaced_and_within(low: float, span: float, max_ticks: int) -> None:
    tick_values = ticks(low, low + span, max_ticks)
    steps = np.diff(tick_values)

    assert len(tick_values) <= max_ticks + 1
    assert all(low - 1e-6 * span <= value <= low + span * (1 + 1e-6) for value in tick_values)
    if len(steps):
        assert np.allclose(steps, steps[0], rtol=1e-4)
        assert round(steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-6), 3) in (1, 2, 5)


def samples_file(path: Path, groups: Sequence[Group], *, provider: str = "p") -> Path:
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider=provider, model="m", top_logprobs=8))
        for group in groups:
            messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is <b>2+2</b>?"})
            store.add_questions([StoredQuestion(id=group.question_id, messages=messages, answer="4", family="sums")])
            store.add_samples(group.question_id, group.completions, usage=Usage(calls=1))
            store.set_labels({(group.question_id, index): float(label) for index, label in enumerate(group.labels)})
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A head's file and a samples file."""
    save(a_head(), tmp_path / "head.safetensors")
    return tmp_path / "head.safetensors", samples_file(tmp_path / "samples.db", graded_groups(30))


def test_the_same_files_make_the_same_bytes_with_prompts_and_answers_in_them(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    pages = []
    for name in ("one.html", "two.html"):
        result = report(*files, out=tmp_path / name, split="all", subsets=20, resamples=50, trained=False)
        pages.append((tmp_path / name).read_bytes())

    assert pages[0] == pages[1]
    page = Page(pages[0].decode())
    assert page.words.count("system: Be brief.") == 10
    assert "What is <b>2+2</b>?" in page.words
    assert result.questions == 30
    assert {path.name for path in tmp_path.iterdir()} == {"head.safetensors", "samples.db", "one.html", "two.html"}


def test_only_questions_of_the_part_are_shown(files: tuple[Path, Path], tmp_path: Path) -> None:
    result = report(*files, out=tmp_path / "r.html", subsets=5, resamples=20, trained=False)

    assert result.questions < 30
    assert f"{result.questions} questions that training never saw" in Page((tmp_path / "r.html").read_text()).words


def test_the_command_says_the_headline_and_where_the_page_is(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.html"
    options = "--split all --no-trained --subsets 5 --n 2"
    arguments = ["report", *map(str, files), "--out", str(out), *options.split()]

    assert run(arguments) == 0
    output = capsys.readouterr().out
    assert output.rstrip().endswith(str(out))
    assert "majority vote" in output
    assert run([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["report"] == str(out)
    assert document["evaluation"]["questions"] == 30


def test_a_head_of_another_model_is_refused_before_anything_is_written(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ArtifactMismatchError):
        report(replace(a_head(), model="other"), files[1], out=tmp_path / "r.html")

    assert not (tmp_path / "r.html").exists()


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Make every write beyond ``size`` bytes fail, as a full disk does."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_page_and_no_draft(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    out.write_text("old")

    with no_file_beyond(1 << 16), pytest.raises(ConfigurationError, match="cannot be written") as excinfo:
        report(*files, out=out, split="all", subsets=5, resamples=20, trained=False)

    assert "Make room" in excinfo.value.hint
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head.safetensors", "r.html", "samples.db"]


@pytest.mark.parametrize(("place", "reason"), [("no/r.html", "folder does not exist"), ("", "it is a folder")])
def test_a_place_that_cannot_be_written_to_is_refused_before_any_time_is_spent(
    place: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        report(tmp_path / "missing.safetensors", tmp_path / "missing.db", out=tmp_path / place)


def test_the_report_needs_jinja2_only_when_it_is_made(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = "import sys, swift_client.training as t; t.report; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", imported], check=False).returncode == 0

    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"swift-client\[cli\]"):
        report(*files, out=tmp_path / "r.html")


def test_an_evaluation_that_was_already_made_is_written_without_another(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"split": "all", "subsets": 5, "resamples": 20, "trained": False}
    report(*files, out=tmp_path / "one.html", **options)
    stored = evaluate(a_head(), files[1], **options)
    write_report(stored, a_head(), files[1], out=tmp_path / "two.html", answer="auto")

    assert (tmp_path / "two.html").read_bytes() == (tmp_path / "one.html").read_bytes()


def test_words_of_the_fixture_are_those_that_the_page_shows() -> None:
    assert {text for _, text in Page(usual()[2]).tokens} <= set(WORDS)

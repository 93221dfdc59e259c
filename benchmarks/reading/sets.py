"""Recorded sets: loaded, graded by our graders, compared with the recorded labels, and voted on by our groups."""

from __future__ import annotations

import gzip
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.reading.labels import Corrections
from swift_client.answers import read
from swift_client.dataset.graders import grade


@dataclass(frozen=True, kw_only=True)
class SetRow:
    """One recorded set: how it is graded and the agreement that is wanted."""

    name: str
    grader: str  # for the bar; "auto" is reported beside it
    target: float = 0.98  # share of completions on which our grade is the recorded label
    reads: str = "auto"  # the reader whose unread share counts: "auto" unless the answers are bare letters
    compares: str = "numbers"  # what answers are: "numbers" (also formulas), or "words"
    states: str = ""  # a pattern of the texts that state an answer, where the recording does not say which do


# Every set with texts. Two have no reference (their labels alone are recorded), so only their reading is measured.
SET_ROWS = (
    SetRow(name="gsm8k_gpt4_cot1", grader="number", target=0.995),
    SetRow(name="asdiv_gpt4_cot1", grader="number", target=0.985),
    SetRow(name="tabmwp_gpt4_cot1", grader="auto", target=0.985),
    SetRow(name="math500_qwen1.5b_prm_seed0", grader="boxed", target=0.985),
    SetRow(name="gsm8k_qwen0.5b", grader="number"),
    SetRow(name="gsm8k_qwen1.5b_prm", grader="number"),
    SetRow(name="gsm8k_trohit", grader="number"),
    SetRow(name="svamp_llama8b_postwarp", grader="number"),
    SetRow(name="math_gemma_n10", grader="number"),
    SetRow(name="math_mistral_n10", grader="number"),
    SetRow(name="date_gpt35_n40", grader="auto", compares="words"),
    SetRow(name="last_letters_gpt35_n40", grader="auto", compares="words"),
    SetRow(name="navigate_gpt4_cot1", grader="yes_no", compares="words"),
    SetRow(name="primes_drift", grader="yes_no", compares="words", states=r"\[(?:Yes|No)\]"),
    SetRow(name="mintaka_gpt51", grader="auto", compares="words"),
    SetRow(name="hotpotqa_gemini25flash", grader="auto", compares="words"),
    SetRow(name="mmlu_7models_topk", grader="choice", reads="choice", compares="words"),
    SetRow(name="medmcqa_llama_chain_cost", grader="choice", reads="choice", compares="words"),
    SetRow(name="mmlu_qwen_openai_chain_cost", grader="choice", reads="choice", compares="words"),
)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One recorded completion."""

    index: int  # its place in the question
    text: str
    label: bool | None  # as recorded
    is_readable: bool  # whether it states an answer, by the recording's own account
    score: float | None = None  # higher is better: exp(mean logprob), or a reward model's score


@dataclass(frozen=True, kw_only=True)
class RecordedQuestion:
    """One question with its accepted answers; none where the recording has no reference."""

    id: str
    references: tuple[Any, ...]
    completions: tuple[Recorded, ...]


def load(path: Path, states: str = "") -> list[RecordedQuestion]:
    """Read one set, a JSON line per question."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [parse_question(json.loads(line), states) for line in lines]


def parse_question(row: dict[str, Any], states: str = "") -> RecordedQuestion:
    """Parse one line; completions without a text are left out, their indices stay."""
    answer = row["answer"]
    references = tuple(answer) if isinstance(answer, list) else () if answer is None else (answer,)
    completions = tuple(
        Recorded(
            index=index,
            text=entry["text"],
            label=entry.get("label"),
            is_readable=is_readable(entry) and re.search(states, entry["text"]) is not None,
            score=score_of(entry),
        )
        for index, entry in enumerate(row["completions"])
        if entry.get("text")
    )
    return RecordedQuestion(id=row["id"], references=references, completions=completions)


def score_of(entry: dict[str, Any]) -> float | None:
    """Return exp(mean logprob), else the score of a reward model, else None."""
    if entry.get("mean_logprob") is not None:
        return math.exp(entry["mean_logprob"])
    if entry.get("logprobs"):
        return math.exp(fmean(max(-20.0, number) for number in entry["logprobs"]))
    return entry.get("external_score")


MAX_ANSWER_LENGTH = 80  # characters
# The end of a text that was not broken off: a mark of punctuation, a box, a marked answer, or a short text.
_END_OF_TEXT = re.compile(
    r"[.!?\])*`$\"']$|boxed\{.{1,80}\}$|(?:\b(?:answer|ans|A)\W{1,4}|\#{4})[^\n]{1,80}$|^.{1,80}$", re.IGNORECASE
)


def is_readable(entry: dict[str, Any]) -> bool:
    """Return whether the recording's own reader found an answer, or graded one right, in a text that came to its end.

    A text that breaks off in mid-sentence states no answer, though a reader of last numbers finds one in it. Nor does a
    long text that the recording took as a whole.
    """
    if "parsed" in entry:
        found = entry["parsed"] is not None and len(str(entry["parsed"])) <= MAX_ANSWER_LENGTH
    else:
        found = entry.get("label") is True
    text = entry["text"].strip()
    is_broken_off = text.count("\\[") > text.count("\\]") or _END_OF_TEXT.search(text[-200:]) is None
    return found and not is_broken_off


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One question as a vote sees it."""

    texts: list[str]
    labels: list[bool]
    groups: list[int | None]  # by the grader's reader
    scores: list[float | None]


@dataclass(kw_only=True)
class SetResult:
    """The figures of one set. Shares are 0–1."""

    row: SetRow
    n_completions: int = 0
    n_labelled: int = 0  # completions that count for the agreement
    n_corrected: int = 0
    n_left_out: int = 0  # recorded labels that their reference cannot decide
    agreement: dict[str, float] = field(default_factory=dict)  # per contestant, with corrected labels
    recorded_agreement: dict[str, float] = field(default_factory=dict)  # per contestant, all labels as recorded
    interval: tuple[float, float] = (0.0, 0.0)  # 95 %, of our agreement with corrected labels
    unread: float | None = None  # share of readable completions without an answer by ``row.reads``
    mute_questions: float | None = None  # share of questions of which no completion is read
    vote_accuracy: dict[str, float] = field(default_factory=dict)  # per reader or peer
    peers: dict[str, Any] = field(default_factory=dict)  # math-verify's figures; why a peer is missing
    disagreements: list[dict[str, Any]] = field(default_factory=list)
    unread_examples: list[dict[str, Any]] = field(default_factory=list)
    # Kept for the peers: (question id, completion index) → the right label, and our verdict.
    questions: list[RecordedQuestion] = field(default_factory=list, repr=False)
    labels: dict[tuple[str, int], bool | None] = field(default_factory=dict, repr=False)
    verdicts: dict[tuple[str, int], bool | None] = field(default_factory=dict, repr=False)
    votes: list[Vote] = field(default_factory=list, repr=False)

    @property
    def margin(self) -> float:
        """Return how far our agreement is above the target."""
        return self.agreement["ours"] - self.row.target


# From a text and its references to right, wrong or unknown.
GradeFunction = Callable[[str, Sequence[Any]], bool | None]


def graders_of(row: SetRow) -> dict[str, GradeFunction]:
    """Return the contestants: our grader for the set, our "auto", and the last number where numbers are asked for."""
    contestants: dict[str, GradeFunction] = {
        "ours": lambda text, references: grade(text, list(references), row.grader),
    }
    if row.grader != "auto":
        contestants["ours, auto"] = lambda text, references: grade(text, list(references), "auto")
    contestants["last number"] = last_number_grade
    return contestants


_LAST_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def last_number(text: str) -> float | None:
    """Return the last number in the text as plain scripts read it: sign, digits, commas, decimals."""
    found = _LAST_NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def last_number_grade(text: str, references: Sequence[Any]) -> bool | None:
    """Return whether the last number is that of a reference; None where no reference is a number."""
    wanted = [last_number(str(reference)) for reference in references]
    if all(number is None for number in wanted):
        return None
    value = last_number(text)
    return value is not None and any(number is not None and abs(value - number) < 1e-6 for number in wanted)


def clustered_interval(hits: Sequence[Sequence[bool]]) -> tuple[float, float]:
    """Return the 95 % interval of a mean whose values come in groups, one per question."""
    sizes = np.array([len(group) for group in hits], float)
    sums = np.array([sum(group) for group in hits], float)
    mean = sums.sum() / sizes.sum()
    half = 1.96 * np.sqrt(((sums - mean * sizes) ** 2).sum()) / sizes.sum()
    return max(0.0, float(mean - half)), min(1.0, float(mean + half))


def count_agreement(result: SetResult, show: int = 0) -> None:
    """Fill in the agreement of every contestant; the first ``show`` disagreements of ours are kept."""
    contestants = graders_of(result.row)
    hits: dict[str, list[list[bool]]] = {name: [] for name in contestants}
    recorded_hits: dict[str, list[bool]] = {name: [] for name in contestants}
    for question in result.questions:
        labelled = [entry for entry in question.completions if entry.label is not None]
        if not question.references or not labelled:
            continue
        labels = [result.labels[question.id, entry.index] for entry in labelled]
        result.n_left_out += labels.count(None)
        result.n_corrected += sum(
            label not in (entry.label, None) for label, entry in zip(labels, labelled, strict=True)
        )
        for name, contestant in contestants.items():
            verdict_by_text = {text: contestant(text, question.references) for text in {e.text for e in labelled}}
            verdicts = [verdict_by_text[entry.text] for entry in labelled]
            recorded_hits[name] += [v == entry.label for v, entry in zip(verdicts, labelled, strict=True)]
            judged = [(v, label) for v, label in zip(verdicts, labels, strict=True) if label is not None]
            if judged:
                hits[name].append([v == label for v, label in judged])
            if name == "ours":
                result.verdicts |= {(question.id, e.index): v for e, v in zip(labelled, verdicts, strict=True)}
                keep_disagreements(result, question, labelled, show)
    result.n_labelled = sum(map(len, hits["ours"]))
    if not result.n_labelled:
        return
    result.interval = clustered_interval(hits["ours"])
    for name in contestants:
        result.agreement[name] = sum(map(sum, hits[name])) / result.n_labelled
        result.recorded_agreement[name] = fmean(recorded_hits[name])


def keep_disagreements(result: SetResult, question: RecordedQuestion, labelled: Sequence[Recorded], show: int) -> None:
    """Keep the completions of one question on which our verdict is not the right label."""
    for entry in labelled:
        place = question.id, entry.index
        label, verdict = result.labels[place], result.verdicts[place]
        if label is not None and verdict != label and len(result.disagreements) < show:
            answer = read_one(entry.text, result.row.grader)
            known = {"id": question.id, "index": entry.index, "label": label, "ours": verdict, "read": answer}
            result.disagreements.append(known | {"references": question.references, "text": entry.text})


def read_one(text: str, spec: str) -> str | None:
    """Return the answer that a reader finds in a text."""
    return read([text], spec).values[0]


def winner(groups: Iterable[int | None]) -> int | None:
    """Return the place of the first member of the largest group; the earlier group where two are equally large."""
    groups = list(groups)
    counts = Counter(group for group in groups if group is not None)
    return groups.index(max(counts, key=lambda group: (counts[group], -groups.index(group)))) if counts else None


def count_readings(result: SetResult, show: int = 0) -> None:
    """Fill in what is unread (the first ``show`` are kept) and how often the vote of our groups is right.

    A question whose completions all are unread is decided by its first completion, as without any signal. Questions
    with one completion, or with one whose label is unknown, have no vote.
    """
    row = result.row
    n_readable = n_unread = n_mute = n_asked = 0
    n_right: Counter[str] = Counter()
    for question in result.questions:
        result.n_completions += len(question.completions)
        labels = [result.labels[question.id, entry.index] for entry in question.completions]
        texts = [entry.text for entry in question.completions]
        known_labels = [label for label in labels if label is not None]
        groups_by_reader = {reader: read(texts, reader).groups for reader in dict.fromkeys((row.reads, row.grader))}
        readable = [entry.is_readable for entry in question.completions]
        groups = groups_by_reader[row.reads]
        n_readable += sum(readable)
        for entry, group in zip(question.completions, groups, strict=True):
            if entry.is_readable and group is None:
                n_unread += 1
                if len(result.unread_examples) < show:
                    alone = read_one(entry.text, row.reads)
                    known = {"id": question.id, "index": entry.index, "read_alone": alone, "text": entry.text}
                    result.unread_examples.append(known)
        n_asked += any(readable)
        n_mute += any(readable) and all(group is None for group in groups)
        if len(texts) > 1 and len(known_labels) == len(labels):
            for reader, groups in groups_by_reader.items():
                n_right[f"ours, {reader}"] += known_labels[winner(groups) or 0]
            scores = [entry.score for entry in question.completions]
            groups = groups_by_reader[row.grader]
            result.votes.append(Vote(texts=texts, labels=known_labels, groups=list(groups), scores=scores))
    if n_readable:
        result.unread, result.mute_questions = n_unread / n_readable, n_mute / n_asked
    result.vote_accuracy = {reader: count / len(result.votes) for reader, count in n_right.items()}


def measure_set(row: SetRow, path: Path, corrections: Corrections, show: int = 0, show_unread: int = 0) -> SetResult:
    """Measure one set; the first disagreements and unread completions are kept where they are asked for."""
    result = SetResult(row=row, questions=load(path, row.states))
    for question in result.questions:
        for entry in question.completions:
            label = corrections.label(question.id, entry.index, entry.text, question.references, entry.label)
            result.labels[question.id, entry.index] = label
    count_agreement(result, show)
    count_readings(result, show_unread)
    return result

"""Recorded sets: loaded, graded by our graders, compared with the recorded labels, and voted on by our groups."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from swift_client.answers import read
from swift_client.dataset.graders import grade


@dataclass(frozen=True, kw_only=True)
class SetRow:
    """One recorded set: how it is graded and the agreement that is wanted."""

    name: str
    grader: str  # for the bar; "auto" is reported beside it
    target: float = 0.98  # share of completions on which our grade is the recorded label
    reads: str = "auto"  # the reader whose unread share counts: "auto" unless the answers are bare letters


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
    SetRow(name="date_gpt35_n40", grader="auto"),
    SetRow(name="last_letters_gpt35_n40", grader="auto"),
    SetRow(name="navigate_gpt4_cot1", grader="yes_no"),
    SetRow(name="primes_drift", grader="yes_no"),
    SetRow(name="mintaka_gpt51", grader="auto"),
    SetRow(name="hotpotqa_gemini25flash", grader="auto"),
    SetRow(name="mmlu_7models_topk", grader="choice", reads="choice"),
    SetRow(name="medmcqa_llama_chain_cost", grader="choice", reads="choice"),
    SetRow(name="mmlu_qwen_openai_chain_cost", grader="choice", reads="choice"),
)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One recorded completion."""

    index: int  # its place in the question
    text: str
    label: bool | None  # as recorded
    is_readable: bool  # whether it states an answer, by the recording's own account


@dataclass(frozen=True, kw_only=True)
class RecordedQuestion:
    """One question with its accepted answers; none where the recording has no reference."""

    id: str
    references: tuple[Any, ...]
    completions: tuple[Recorded, ...]


def load(path: Path) -> list[RecordedQuestion]:
    """Read one set, a JSON line per question."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [parse_question(json.loads(line)) for line in lines]


def parse_question(row: dict[str, Any]) -> RecordedQuestion:
    """Parse one line; completions without a text are left out, their indices stay."""
    answer = row["answer"]
    references = tuple(answer) if isinstance(answer, list) else () if answer is None else (answer,)
    completions = tuple(
        Recorded(index=index, text=entry["text"], label=entry.get("label"), is_readable=is_readable(entry))
        for index, entry in enumerate(row["completions"])
        if entry.get("text")
    )
    return RecordedQuestion(id=row["id"], references=references, completions=completions)


_END_OF_TEXT = re.compile(r"[.!?\]})*\d%`$\"']\s*$|^.{1,80}$")


def is_readable(entry: dict[str, Any]) -> bool:
    """Return whether the recording's own reader found an answer, or graded one right, in a text that came to its end.

    A text that breaks off in mid-sentence states no answer, though a reader of last numbers finds one in it.
    """
    found = entry["parsed"] is not None if "parsed" in entry else entry.get("label") is True
    return bool(found) and _END_OF_TEXT.search(entry["text"].rstrip()[-200:]) is not None


# (question id, completion index) → the right label.
Corrections = dict[tuple[str, int], bool]


@dataclass(kw_only=True)
class SetResult:
    """The figures of one set. Shares are 0–1."""

    row: SetRow
    n_completions: int = 0
    n_labelled: int = 0
    n_corrected: int = 0
    agreement: dict[str, float] = field(default_factory=dict)  # per contestant, with corrected labels
    recorded_agreement: dict[str, float] = field(default_factory=dict)  # per contestant, labels as recorded
    interval: tuple[float, float] = (0.0, 0.0)  # 95 %, of our agreement with corrected labels
    unread: float | None = None  # share of readable completions without an answer by ``row.reads``
    mute_questions: float | None = None  # share of questions of which no completion is read
    vote_accuracy: dict[str, float] = field(default_factory=dict)  # per reader or peer
    disagreements: list[dict[str, Any]] = field(default_factory=list)

    @property
    def margin(self) -> float:
        """Return how far our agreement is above the target."""
        return self.agreement["ours"] - self.row.target


def grade_any(text: str, references: Sequence[Any], spec: str) -> bool | None:
    """Return True if any reference makes the text right, None if none can be compared."""
    verdicts = [grade(text, reference, spec) for reference in references]
    if any(verdicts):
        return True
    return None if None in verdicts else False


# From a text and its references to right, wrong or unknown.
GradeFunction = Callable[[str, Sequence[Any]], bool | None]


def graders_of(row: SetRow) -> dict[str, GradeFunction]:
    """Return the contestants: our grader for the set, our "auto", and the last number where numbers are asked for."""
    contestants: dict[str, GradeFunction] = {
        "ours": lambda text, references: grade_any(text, references, row.grader),
    }
    if row.grader != "auto":
        contestants["ours, auto"] = lambda text, references: grade_any(text, references, "auto")
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


def count_agreement(
    result: SetResult, questions: Sequence[RecordedQuestion], corrections: Corrections, show: int = 0
) -> None:
    """Fill in the agreement of every contestant; the first ``show`` disagreements of ours are kept."""
    contestants = graders_of(result.row)
    hits: dict[str, list[list[bool]]] = {name: [] for name in contestants}
    recorded_hits: Counter[str] = Counter()
    for question in questions:
        labelled = [entry for entry in question.completions if entry.label is not None]
        if not question.references or not labelled:
            continue
        labels = [corrections.get((question.id, entry.index), bool(entry.label)) for entry in labelled]
        result.n_labelled += len(labelled)
        result.n_corrected += sum(label != entry.label for label, entry in zip(labels, labelled, strict=True))
        for name, contestant in contestants.items():
            verdict_by_text = {text: contestant(text, question.references) for text in {e.text for e in labelled}}
            verdicts = [verdict_by_text[entry.text] for entry in labelled]
            hits[name].append([verdict == label for verdict, label in zip(verdicts, labels, strict=True)])
            recorded_hits[name] += sum(
                verdict == entry.label for verdict, entry in zip(verdicts, labelled, strict=True)
            )
            if name == "ours":
                for entry, verdict, label in zip(labelled, verdicts, labels, strict=True):
                    if verdict != label and len(result.disagreements) < show:
                        result.disagreements.append(
                            {
                                "id": question.id,
                                "index": entry.index,
                                "label": label,
                                "ours": verdict,
                                "read": read_one(entry.text, result.row.grader),
                                "references": question.references,
                                "text": entry.text,
                            }
                        )
    if result.n_labelled:
        result.interval = clustered_interval(hits["ours"])
    for name in contestants if result.n_labelled else ():
        result.agreement[name] = sum(map(sum, hits[name])) / result.n_labelled
        result.recorded_agreement[name] = recorded_hits[name] / result.n_labelled


def read_one(text: str, spec: str) -> str | None:
    """Return the answer that a reader finds in a text."""
    return read([text], spec).values[0]


def winner(groups: Iterable[int | None]) -> int | None:
    """Return the place of the first member of the largest group; the earlier group where two are equally large."""
    groups = list(groups)
    counts = Counter(group for group in groups if group is not None)
    return groups.index(max(counts, key=lambda group: (counts[group], -groups.index(group)))) if counts else None


def count_readings(result: SetResult, questions: Sequence[RecordedQuestion], corrections: Corrections) -> None:
    """Fill in what is unread and how often the vote of our groups is right.

    A question whose completions all are unread is decided by its first completion, as without any signal.
    """
    row = result.row
    n_readable = n_unread = n_mute = n_asked = 0
    n_right: Counter[str] = Counter()
    n_voted = 0
    for question in questions:
        result.n_completions += len(question.completions)
        labels = [corrections.get((question.id, entry.index), entry.label) for entry in question.completions]
        texts = [entry.text for entry in question.completions]
        if not texts:
            continue
        is_voted = None not in labels and len(labels) > 1
        n_voted += is_voted
        for reader in dict.fromkeys((row.reads, row.grader)):
            groups = read(texts, reader).groups
            if reader == row.reads:
                readable = [entry.is_readable for entry in question.completions]
                n_readable += sum(readable)
                n_unread += sum(a and group is None for a, group in zip(readable, groups, strict=True))
                n_asked += any(readable)
                n_mute += any(readable) and all(group is None for group in groups)
            if is_voted:
                n_right[reader] += bool(labels[winner(groups) or 0])
    if n_readable:
        result.unread, result.mute_questions = n_unread / n_readable, n_mute / n_asked
    result.vote_accuracy = {reader: count / n_voted for reader, count in n_right.items()} if n_voted else {}


def measure_set(row: SetRow, path: Path, corrections: Corrections, show: int = 0) -> SetResult:
    """Measure one set."""
    questions = load(path)
    result = SetResult(row=row)
    count_agreement(result, questions, corrections, show)
    count_readings(result, questions, corrections)
    return result

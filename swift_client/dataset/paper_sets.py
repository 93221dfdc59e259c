r"""The question sets of the SWIFT paper, one row each: how a record is read, asked, answered and graded.

A record's fields are those of the public sets (``source`` of each row). MATH's and GSM8K's instruction is the one of
the official code; the others ask for the same thing, a box at the end, in our own words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from swift_client.answers.markers import find_boxed
from swift_client.dataset.graders import GRADERS

Fields = Mapping[str, Any]


class MalformedRecordError(ValueError):
    """A record is not one of its set; the message says which field and why, the caller adds where it stands."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one record of a set says."""

    question: str
    answer: str | None = None
    """The reference, or None where the set gives labelled texts, or keeps its answers to itself."""
    id: str | None = None
    """The set's own name for it, where it has one."""
    texts: tuple[str, ...] = ()
    """Texts that the set itself gives as answers."""
    labels: tuple[float, ...] = ()
    """One for each text: 1 right or preferred, 0 wrong or not preferred, NaN unknown."""


@dataclass(frozen=True, kw_only=True)
class PaperSet:
    """One row of PAPER_SETS."""

    name: str
    instruction: str
    r"""Stands before the question, with the line break between them."""
    parse: Callable[[Fields], Record]
    """From a record's fields; raises MalformedRecordError."""
    answer: str | None
    """What ``best_of(answer=)`` reads; None for free text."""
    grader: str
    """Row of GRADERS."""
    source: str
    """Page of the public set, with its fields and licence."""
    hub: Mapping[str, tuple[str, str | None, str]] = field(default_factory=dict)
    """Split -> (repository, configuration, split) for the ``datasets`` library, as the official code took them."""


def _text_field(fields: Fields, *names: str) -> str:
    """Return the first of these fields as text."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if value is not None:
            raise MalformedRecordError(f"its field {name!r} holds {value!r:.40} and not text")
    raise MalformedRecordError(f"it has no field {' or '.join(map(repr, names))}")


def _text_list_field(fields: Fields, name: str) -> list[str]:
    value = fields.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise MalformedRecordError(f"its field {name!r} is not a list of texts")
    return [each.strip() for each in value]


def _parse_math(fields: Fields) -> Record:
    answer = fields.get("answer")
    if not isinstance(answer, str):
        answer = find_boxed(_text_field(fields, "solution"))
        if answer is None:
            raise MalformedRecordError(r"its field 'solution' has no \boxed{} answer")
    name = fields.get("unique_id")
    return Record(question=_text_field(fields, "problem"), answer=answer, id=name if isinstance(name, str) else None)


def _parse_gsm8k(fields: Fields) -> Record:
    return Record(
        question=_text_field(fields, "question"), answer=_text_field(fields, "answer").rpartition("####")[2].strip()
    )


def _parse_aqua(fields: Fields) -> Record:
    options = "\n".join(_text_list_field(fields, "options"))
    return Record(question=f"{_text_field(fields, 'question')}\n{options}", answer=_text_field(fields, "correct"))


_OPTION_LETTERS = "ABCDEFGHIJ"


def _parse_hellaswag(fields: Fields) -> Record:
    endings, label = _text_list_field(fields, "endings"), fields.get("label")
    options = "\n".join(f"{letter}) {ending}" for letter, ending in zip(_OPTION_LETTERS, endings, strict=False))
    question = f"{_text_field(fields, 'ctx')}\n{options}"
    if label is None or label == "":  # the public test split keeps its labels to itself
        return Record(question=question)
    if str(label) not in map(str, range(min(len(endings), len(_OPTION_LETTERS)))):
        raise MalformedRecordError(f"its field 'label' holds {label!r:.40} and not the number of an ending")
    return Record(question=question, answer=_OPTION_LETTERS[int(label)])


_QUESTION_PREFIX = re.compile(r"^Q:\s*")


def _parse_coin_flip(fields: Fields) -> Record:
    return Record(
        question=_QUESTION_PREFIX.sub("", _text_field(fields, "inputs", "question")),
        answer=_text_field(fields, "targets", "answer").lower(),
    )


def _parse_imbue(fields: Fields) -> Record:
    choices, right = _text_list_field(fields, "choices"), _text_field(fields, "correct_answer")
    if right not in choices:
        raise MalformedRecordError("its field 'correct_answer' is none of its 'choices'")
    listed = "\n".join(f"- {choice}" for choice in choices)
    return Record(question=f"{_text_field(fields, 'question')}\n\nChoices:\n{listed}", answer=right)


def _parse_safe_rlhf(fields: Fields) -> Record:
    better = fields.get("better_response_id")
    if better not in (0, 1) or isinstance(better, bool):
        raise MalformedRecordError(f"its field 'better_response_id' holds {better!r:.40} and not 0 or 1")
    return Record(
        question=_text_field(fields, "prompt"),
        texts=(_text_field(fields, "response_0"), _text_field(fields, "response_1")),
        labels=(float(better == 0), float(better == 1)),
    )


_MATH_INSTRUCTION = (
    "Solve the following math problem step-by-step.\n"
    "Simplify your answer as much as possible. Present your final answer as \\boxed{Your Answer}.\n"
)
_HUB_URL = "https://huggingface.co/datasets/"

PAPER_SETS = MappingProxyType(
    {
        row.name: row
        for row in (
            PaperSet(
                name="math",
                instruction=_MATH_INSTRUCTION,
                parse=_parse_math,
                answer="boxed",
                grader="math",
                source="https://github.com/hendrycks/math",
                hub={
                    "train": ("DigitalLearningGmbH/MATH-lighteval", None, "train"),
                    "test": ("HuggingFaceH4/MATH-500", None, "test"),
                },
            ),
            PaperSet(
                name="gsm8k",
                instruction=_MATH_INSTRUCTION,
                parse=_parse_gsm8k,
                answer="number",
                grader="number",
                source="https://github.com/openai/grade-school-math",
                hub={"train": ("openai/gsm8k", "main", "train"), "test": ("openai/gsm8k", "main", "test")},
            ),
            PaperSet(
                name="aqua_rat",
                instruction="Solve this multiple-choice question step by step. "
                "End with the letter of the right option, alone, as \\boxed{Letter}.\n",
                parse=_parse_aqua,
                answer="choice",
                grader="choice",
                source="https://github.com/google-deepmind/AQuA",
                hub={split: ("deepmind/aqua_rat", "raw", split) for split in ("train", "validation", "test")},
            ),
            PaperSet(
                name="hellaswag",
                instruction="Which of these endings continues the text best? Give your reasons step by step. "
                "End with the letter of that ending, alone, as \\boxed{Letter}.\n",
                parse=_parse_hellaswag,
                answer="choice",
                grader="choice",
                source=_HUB_URL + "Rowan/hellaswag",
                # the test split has no labels; the official code tests on the validation split
                hub={"train": ("Rowan/hellaswag", None, "train"), "test": ("Rowan/hellaswag", None, "validation")},
            ),
            PaperSet(
                name="coin_flip",
                instruction="Answer this question, reasoning step by step. End with \\boxed{Yes} or \\boxed{No}.\n",
                parse=_parse_coin_flip,
                answer="yes_no",
                grader="yes_no",
                source=_HUB_URL + "skrishna/coin_flip",
                hub={
                    "train": ("skrishna/coin_flip", None, "train"),
                    "test": ("skrishna/coin_flip", None, "validation"),
                },
            ),
            PaperSet(
                name="imbue",
                instruction="Work through this question about code step by step. "
                "End with the right choice, written as a Python literal, as \\boxed{choice}.\n",
                parse=_parse_imbue,
                answer="boxed",
                grader="literal",
                source=_HUB_URL + "imbue/code-comprehension",
                hub={
                    "train": ("imbue/code-comprehension", None, "train[:6000]"),
                    "test": ("imbue/code-comprehension", None, "train[6000:6500]"),
                },
            ),
            PaperSet(
                name="pku_safe_rlhf",
                instruction="",
                parse=_parse_safe_rlhf,
                answer=None,
                grader="label",
                source=_HUB_URL + "PKU-Alignment/PKU-SafeRLHF",
                hub={
                    "train": ("PKU-Alignment/PKU-SafeRLHF", None, "train"),
                    "test": ("PKU-Alignment/PKU-SafeRLHF", None, "test"),
                },
            ),
        )
    }
)
"""One row for each set of the SWIFT paper."""


def read_record(row: PaperSet, fields: Any) -> Record:
    """Return what a record of ``row`` says, its answer checked against the grader. Raises MalformedRecordError."""
    if not isinstance(fields, Mapping):
        raise MalformedRecordError("it is not an object with fields")
    record = row.parse(fields)
    if record.answer is not None and not GRADERS[row.grader].read_reference(record.answer):
        raise MalformedRecordError(f"its answer {record.answer!r:.60} is nothing that {row.grader!r} can compare with")
    return record

"""The question sets of the SWIFT paper, from a file of records or the ``datasets`` library.

Each row of PAPER_SETS says how the public records of a set (see its ``source``) are parsed, asked and graded. MATH and
GSM8K have the instruction of the official code; the others ask for the same, a box at the end, in our own words.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from swift_client.answers.markers import find_boxed
from swift_client.dataset.graders import GRADERS
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.store import StoredQuestion

Fields = Mapping[str, Any]

_OPTION_LETTERS = "ABCDEFGHIJ"
_QUESTION_PREFIX = re.compile(r"^Q:\s*")


class MalformedRecordError(ValueError):
    """A record does not belong to its set. The message names the field; the caller adds the place."""


@dataclass(frozen=True, kw_only=True)
class SetQuestion(StoredQuestion):
    """A question of a set. ``id`` is the set's own, else its name and a hash of the question; ``family`` its name."""

    # Answers that the set itself provides (PKU-SafeRLHF's two responses).
    texts: tuple[str, ...] = ()
    labels: tuple[float, ...] = ()  # one per text: 1 preferred, 0 not

    @property
    def prompt(self) -> str:
        """The instruction and the question."""
        return str(self.messages[0]["content"])


@dataclass(frozen=True, kw_only=True)
class Record:
    """The content of one record of a set."""

    question: str
    # The reference answer; None if the set has labelled texts, or does not publish its answers.
    answer: str | None = None
    id: str | None = None
    texts: tuple[str, ...] = ()
    labels: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PaperSet:
    """One row of PAPER_SETS."""

    name: str
    instruction: str  # text before the question, line break included
    parse: Callable[[Fields], Record]  # parser of a record's fields; raises MalformedRecordError
    answer: str | None  # the reader for ``best_of(answer=)``; None for free text
    grader: str  # row of GRADERS
    source: str  # page of the public set, with its fields and licence
    # Split -> (repository, configuration, split) for the ``datasets`` library, as in the official code.
    hub: Mapping[str, tuple[str, str | None, str]] = field(default_factory=dict)


def load_set(name: str | PaperSet, path: str | Path | None = None, *, split: str = "test") -> Iterator[SetQuestion]:
    """Read the questions of a set one at a time; a repeated id is left out.

    Args:
        name: row of PAPER_SETS, or your own ``PaperSet``.
        path: file of records: JSON lines (.jsonl, also .json), one JSON list (.json) or Parquet (.parquet; extra
            ``datasets``). Without one the ``datasets`` library downloads ``split``.
        split: the split to download.

    Raises:
        ConfigurationError: an unknown set or split, a file that cannot be read, or a malformed record, which is named
            by its line or number.
        MissingExtraError: the extra ``datasets`` is not installed.
    """
    row = name if isinstance(name, PaperSet) else PAPER_SETS.get(name)
    if row is None:
        raise ConfigurationError(f"There is no set called {name!r}.", hint=f"Use one of {', '.join(PAPER_SETS)}.")
    return _iter_questions(row, _hub_records(row, split) if path is None else _file_records(Path(path)))


def _iter_questions(row: PaperSet, records: Iterator[tuple[str, Any]]) -> Iterator[SetQuestion]:
    """Parse records, each of which comes with its place for errors, such as "gsm8k.jsonl, line 3"."""
    seen: set[str] = set()
    for place, fields in records:
        try:
            if not isinstance(fields, Mapping):
                raise MalformedRecordError("it is not an object with fields")
            record = row.parse(fields)
            if record.answer is not None and not GRADERS[row.grader].read_reference(record.answer):
                problem = f"its answer {record.answer!r:.60} cannot be compared by the grader {row.grader!r}"
                raise MalformedRecordError(problem)
        except MalformedRecordError as error:
            raise _malformed_error(place, str(error), row) from error
        question = SetQuestion(
            id=record.id or _question_id(row, record),
            messages=({"role": "user", "content": row.instruction + record.question},),
            answer=record.answer,
            family=row.name,
            texts=record.texts,
            labels=record.labels,
        )
        if question.id not in seen:
            seen.add(question.id)
            yield question


def _question_id(row: PaperSet, record: Record) -> str:
    text = "\x00".join((record.question, *record.texts))
    return f"{row.name}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _malformed_error(place: str, problem: str, row: PaperSet | None = None) -> ConfigurationError:
    hint = f"The fields of a record are described at {row.source}." if row else "Correct or remove it."
    return ConfigurationError(f"{place}: {problem}.", hint=hint)


def _file_records(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".parquet":
        return _parquet_records(path)
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = next((line for line in file if line.strip()), "")
    except OSError as error:
        raise _unreadable_error(path, error) from error
    is_list = path.suffix == ".json" and first.lstrip().startswith("[")
    return _json_list_records(path) if is_list else _json_line_records(path)


def _unreadable_error(path: Path, error: Exception) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be read: {error}.", hint="Give a .jsonl, .json or .parquet file.")


def _json_line_records(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                place = f"{path}, line {number}"
                yield place, _parse_json(line, place)


def _parse_json(data: bytes, place: str) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _malformed_error(place, f"it is not JSON ({error})") from error


def _json_list_records(path: Path) -> Iterator[tuple[str, Any]]:
    yield from _numbered(path, _parse_json(path.read_bytes(), f"{path}, the whole file"))


def _numbered(source: str | Path, records: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{source}, record {number}", fields) for number, fields in enumerate(records, start=1))


def _parquet_records(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        import pyarrow.lib
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError.needs("datasets", "Reading Parquet") from error
    try:
        table = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.lib.ArrowException) as error:
        raise _unreadable_error(path, error) from error

    def rows() -> Iterator[Any]:
        with table:
            for batch in table.iter_batches(batch_size=1024):
                yield from batch.to_pylist()

    return _numbered(path, rows())


def _hub_records(row: PaperSet, split: str) -> Iterator[tuple[str, Any]]:
    if split not in row.hub:
        raise ConfigurationError(f"{row.name} has no split {split!r}.", hint=f"Use one of {', '.join(row.hub)}.")
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError.needs("datasets", f"Loading {row.name} by name") from error
    repository, configuration, part = row.hub[split]
    name, first, last = _parse_slice(part)
    try:
        # Streaming downloads only what is read. It does not support slices, so islice cuts them below.
        stream = datasets.load_dataset(repository, configuration, split=name, streaming=True)
    except Exception as error:  # errors of the library, the hub, fsspec or the network
        raise _load_error(repository, error) from error

    def records() -> Iterator[tuple[str, Any]]:
        try:
            yield from _numbered(repository, stream)
        except Exception as error:  # as above
            raise _load_error(repository, error) from error

    return islice(records(), first, last)


def _load_error(repository: str, error: Exception) -> ConfigurationError:
    hint = "Check the network, or give a file with path=."
    return ConfigurationError(f"{repository} could not be loaded: {type(error).__name__}: {error}.", hint=hint)


def _parse_slice(part: str) -> tuple[str, int, int | None]:
    """Split "train[6000:6500]" into ("train", 6000, 6500)."""
    name, _, cut = part.rstrip("]").partition("[")
    first, _, last = cut.partition(":")
    return name, int(first or 0), int(last) if last else None


def _text_field(fields: Fields, *names: str) -> str:
    """Return the first of these fields that is there, as text."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if value is not None:
            raise MalformedRecordError(f"its field {name!r} holds {value!r:.40} and not text")
    raise MalformedRecordError(f"it has no field {' or '.join(map(repr, names))}")


def _text_list_field(fields: Fields, name: str) -> list[str]:
    value = fields.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise MalformedRecordError(f"its field {name!r} is not a list of texts")
    return [item.strip() for item in value]


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


def _parse_hellaswag(fields: Fields) -> Record:
    endings, label = _text_list_field(fields, "endings"), fields.get("label")
    options = "\n".join(f"{letter}) {ending}" for letter, ending in zip(_OPTION_LETTERS, endings, strict=False))
    question = f"{_text_field(fields, 'ctx')}\n{options}"
    if label is None or label == "":  # the test split is published without labels
        return Record(question=question)
    if str(label) not in map(str, range(min(len(endings), len(_OPTION_LETTERS)))):
        raise MalformedRecordError(f"its field 'label' holds {label!r:.40} and not the number of an ending")
    return Record(question=question, answer=_OPTION_LETTERS[int(label)])


def _parse_coin_flip(fields: Fields) -> Record:
    return Record(
        question=_QUESTION_PREFIX.sub("", _text_field(fields, "inputs", "question")),
        answer=_text_field(fields, "targets", "answer").lower(),
    )


def _parse_imbue(fields: Fields) -> Record:
    choices, right = _text_list_field(fields, "choices"), _text_field(fields, "correct_answer")
    if right not in choices:
        raise MalformedRecordError("its field 'correct_answer' is not one of its 'choices'")
    listing = "\n".join(f"- {choice}" for choice in choices)
    return Record(question=f"{_text_field(fields, 'question')}\n\nChoices:\n{listing}", answer=right)


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


def _hub_splits(
    repository: str, configuration: str | None = None, *, train: str = "train", test: str = "test", **others: str
) -> dict[str, tuple[str, str | None, str]]:
    return {name: (repository, configuration, part) for name, part in {"train": train, **others, "test": test}.items()}


# One row per set of the SWIFT paper.
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
                hub=_hub_splits("openai/gsm8k", "main"),
            ),
            PaperSet(
                name="aqua_rat",
                instruction="Solve this multiple-choice question step by step. "
                "End with the letter of the right option, alone, as \\boxed{Letter}.\n",
                parse=_parse_aqua,
                answer="choice",
                grader="choice",
                source="https://github.com/google-deepmind/AQuA",
                hub=_hub_splits("deepmind/aqua_rat", "raw", validation="validation"),
            ),
            PaperSet(
                name="hellaswag",
                instruction="Which of these endings continues the text best? Give your reasons step by step. "
                "End with the letter of that ending, alone, as \\boxed{Letter}.\n",
                parse=_parse_hellaswag,
                answer="choice",
                grader="choice",
                source=_HUB_URL + "Rowan/hellaswag",
                # The test split has no labels; the official code tests on the validation split.
                hub=_hub_splits("Rowan/hellaswag", test="validation"),
            ),
            PaperSet(
                name="coin_flip",
                instruction="Answer this question, reasoning step by step. End with \\boxed{Yes} or \\boxed{No}.\n",
                parse=_parse_coin_flip,
                answer="yes_no",
                grader="yes_no",
                source=_HUB_URL + "skrishna/coin_flip",
                hub=_hub_splits("skrishna/coin_flip", test="validation"),
            ),
            PaperSet(
                name="imbue",
                instruction="Work through this question about code step by step. "
                "End with the right choice, written as a Python literal, as \\boxed{choice}.\n",
                parse=_parse_imbue,
                answer="boxed",
                grader="literal",
                source=_HUB_URL + "imbue/code-comprehension",
                hub=_hub_splits("imbue/code-comprehension", train="train[:6000]", test="train[6000:6500]"),
            ),
            PaperSet(
                name="pku_safe_rlhf",
                instruction="",
                parse=_parse_safe_rlhf,
                answer=None,
                grader="label",
                source=_HUB_URL + "PKU-Alignment/PKU-SafeRLHF",
                hub=_hub_splits("PKU-Alignment/PKU-SafeRLHF"),
            ),
        )
    }
)

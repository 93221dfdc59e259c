"""A sketch of the questions that a head was trained on: hashes of their words and word groups, without any text.

It tells questions of the training's kind from others by four numbers (``Likeness``). Words are compared in lower case
and without the values of numbers. In a *template* every run of words that few training questions have is replaced by
its length, so that "What is the capital of Peru?" and "What is the capital of Sri Lanka?" share theirs.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from swift_client.features.segments import F64
from swift_client.types import Message

U32 = NDArray[np.uint32]

# A word belongs to templates if this share of the questions has it, and at least MIN_QUESTIONS_PER_WORD of them.
MIN_WORD_SHARE, MIN_QUESTIONS_PER_WORD = 0.01, 3
MIN_QUESTIONS_PER_GROUP = 2  # questions that have a group of words which the sketch keeps
MAX_WORDS, MAX_GROUPS = 1024, 4096  # the most frequent ones are kept, so that a sketch takes 52 kB at most
MAX_CHARACTERS = 20_000  # of a text: its first and last half; longer prompts take no more time
TEMPLATE_SIZE = 3  # words per group of a template

# Numbers, then characters of scripts that are written without spaces, then words, then single other characters.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORDS = re.compile(rf"\d+(?:[.,]\d+)*|[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W\d_])+|[^\w\s]|_")
_DIGITS = re.compile(r"\d")
_START, _END = "<start>", "<end>"


class Likeness(NamedTuple):
    """Resemblance of a question to those of a sketch, in four numbers; larger is more alike.

    Attributes:
        template: Share of the groups of three in its template that training questions have, 0..1.
        pairs: Share of its words and pairs of neighbouring words that training questions have, 0..1.
        length: Minus the distance of its log number of words from the range of the training's.
        context: As ``pairs``, of the messages around the question.
    """

    template: float
    pairs: float
    length: float
    context: float


@dataclass(frozen=True, eq=False, kw_only=True)
class QuestionSketch:
    """Hashes of what the training questions have in common, and the limits of their kind.

    Raises ValueError if the parts do not fit each other.

    Attributes:
        words: (W,) uint32, rising: hashes of the words of templates.
        templates: (G,) uint32, rising: hashes of the templates' groups of three.
        pairs: (P,) uint32, rising: hashes of words and pairs of words.
        context: (C,) uint32, rising: the same of the messages around the questions.
        lengths: (2,) smallest and largest log number of words.
        limits: (4,) smallest ``Likeness`` of a question of the same kind.
    """

    words: U32
    templates: U32
    pairs: U32
    context: U32
    lengths: F64
    limits: F64

    def __post_init__(self) -> None:
        hashes = {"words": MAX_WORDS, "templates": MAX_GROUPS, "pairs": MAX_GROUPS, "context": MAX_GROUPS}
        for name, max_size in hashes.items():
            values = getattr(self, name)
            if (
                values.dtype != np.uint32
                or values.ndim != 1
                or len(values) > max_size
                or (values[1:] <= values[:-1]).any()
            ):
                raise ValueError(f"{name} of its sketch are not at most {max_size} rising hashes.")
        for name, size in (("lengths", 2), ("limits", len(Likeness._fields))):
            values = getattr(self, name)
            if values.dtype != np.float64 or values.shape != (size,) or not np.isfinite(values).all():
                raise ValueError(f"{name} of its sketch are not {size} finite numbers.")

    @classmethod
    def from_questions(cls, questions: Iterable[Sequence[Message]]) -> Self:
        """Sketch questions, without limits: these are -1e9."""
        conversations = [split_conversation(messages) for messages in questions]
        question_words = [words for words, _ in conversations]
        context_words = [words for _, words in conversations]
        counts = Counter(word for words in question_words for word in set(words))
        min_count = max(MIN_QUESTIONS_PER_WORD, MIN_WORD_SHARE * len(conversations))
        template_words = _most_frequent({_hash(word): count for word, count in counts.items()}, min_count, MAX_WORDS)
        logs = [np.log1p(len(words)) for words in question_words]
        return cls(
            words=template_words,
            templates=_common(_template_groups(words, frozenset(template_words.tolist())) for words in question_words),
            pairs=_common(map(_words_and_pairs, question_words)),
            context=_common(map(_words_and_pairs, context_words)),
            lengths=np.array([min(logs, default=0.0), max(logs, default=0.0)]),
            limits=np.full(len(Likeness._fields), -1e9),
        )

    def likeness(self, messages: Sequence[Message]) -> Likeness:
        """Compare a question, as a list of chat messages, with those of the sketch."""
        question_words, context_words = split_conversation(messages)
        length, (shortest, longest) = float(np.log1p(len(question_words))), self.lengths.tolist()
        return Likeness(
            template=_known_share(_template_groups(question_words, frozenset(self.words.tolist())), self.templates),
            pairs=_known_share(_words_and_pairs(question_words), self.pairs),
            length=min(0.0, length - shortest, longest - length),
            context=_known_share(_words_and_pairs(context_words), self.context),
        )

    def covers(self, messages: Sequence[Message]) -> bool:
        """Return whether a question is of the training's kind: no number of its ``likeness()`` is below its limit."""
        return bool((np.array(self.likeness(messages)) >= self.limits).all())


def split_conversation(messages: Sequence[Message]) -> tuple[list[str], list[str]]:
    """Return the words of the question, the last message of the user, and those of all other messages.

    Without a message of the user the last one is the question. The roles of the other messages count as words.
    """
    positions = [index for index, message in enumerate(messages) if message.get("role") == "user"]
    position = positions[-1] if positions else len(messages) - 1
    texts = [
        f"<{message.get('role')}> {_text_of(message)}" for index, message in enumerate(messages) if index != position
    ]
    return _words(_text_of(messages[position])) if messages else [], _words("\n".join(texts))


def _text_of(message: Message) -> str:
    """Return a message's text; other parts, such as images, are words of their own."""
    content = message.get("content")
    if not isinstance(content, list | tuple):
        return content if isinstance(content, str) else ""
    return "\n".join(map(_text_of_part, content))


def _text_of_part(part: Any) -> str:
    if isinstance(part, Mapping):
        text = part.get("text")
        return text if isinstance(text, str) else f"<{part.get('type')}>"
    return part if isinstance(part, str) else "<other>"


def _words(text: str) -> list[str]:
    """Return the words of a text in lower case, with 0 for every digit."""
    if len(text) > MAX_CHARACTERS:
        text = f"{text[: MAX_CHARACTERS // 2]}\n{text[-MAX_CHARACTERS // 2 :]}"
    return [_DIGITS.sub("0", word) for word in _WORDS.findall(unicodedata.normalize("NFKC", text).casefold())]


def _words_and_pairs(words: Sequence[str]) -> list[int]:
    """Return the hashes of words and of pairs of neighbours, with the start and the end of the text as words."""
    marked = [_START, *words, _END]
    return [_hash(word) for word in words] + [_hash(*pair) for pair in pairwise(marked)]


def _template_groups(words: Sequence[str], known_words: frozenset[int]) -> list[int]:
    """Return the hashes of all groups of three in the template of a question."""
    template = [_START, *_template(words, known_words), _END]
    return [
        _hash(*template[start : start + TEMPLATE_SIZE]) for start in range(max(1, len(template) - TEMPLATE_SIZE + 1))
    ]


def _template(words: Sequence[str], known_words: frozenset[int]) -> Iterator[str]:
    """Yield the known words, and for each run of others its length, rounded up to a power of two."""
    run = 0
    for word in (*words, None):
        if word is not None and _hash(word) not in known_words:
            run += 1
            continue
        if run:
            yield f"<{1 << (run - 1).bit_length()}>"
            run = 0
        if word is not None:
            yield word


def _hash(*words: str) -> int:
    return crc32("\0".join(words).encode("utf-8", "surrogatepass"))


def _common(groups: Iterable[Sequence[int]]) -> U32:
    """Return the hashes that at least MIN_QUESTIONS_PER_GROUP questions have."""
    counts = Counter(value for values in groups for value in set(values))
    return _most_frequent(counts, MIN_QUESTIONS_PER_GROUP, MAX_GROUPS)


def _most_frequent(counts: Mapping[int, int], min_count: float, max_size: int) -> U32:
    """Return the ``max_size`` most frequent hashes that ``min_count`` questions have, in rising order."""
    frequent = sorted((value for value, count in counts.items() if count >= min_count), key=lambda v: (-counts[v], v))
    return np.array(sorted(frequent[:max_size]), np.uint32)


def _known_share(values: Sequence[int], known_hashes: U32) -> float:
    """Return the share of hashes that are known, each as often as it occurs."""
    return float(np.isin(np.array(values, np.uint32), known_hashes).mean()) if values else 1.0

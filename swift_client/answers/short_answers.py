"""Short sentences and bare values that give the same answer, compared by what differs between them.

"The capital of Chile is Santiago.", "Santiago", "It's Santiago" and "Santiago is the capital of Chile" are one answer;
"The capital of Chile is Lima." is another. The prompt is not known here, so the texts of one question explain one
another. A sentence has a few *readings*: what stands on either side of "is", its only number, who wrote or where it
was built, and the part in which it differs from another sentence with the same words around it. It gets the reading
that is also a bare value; else the part that differs; else the one that its form implies. The words that do not belong
to the reading are its *frame*, and sentences with contradicting frames ("the capital of Peru") are not merged.

Wrong merges are worse than missed ones: a sentence with a negation, a doubt, two verbs or two readings that are both
given as bare values stays as it is. All of it is linear in the length of the texts, which is limited for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from swift_client.answers.sentence_words import (
    ABBREVIATION,
    ACTIVE,
    ARTICLE,
    BLOCKING,
    BOUNDS,
    CJK,
    CJK_BLOCKING,
    CJK_IS,
    CLOSING,
    COMPARATIVES,
    COPULAS,
    DETERMINERS,
    EDGE,
    ENGLISH,
    FIRST_COPULAS,
    FUNCTION,
    IN_SENTENCES,
    INDEFINITE,
    LED_IN,
    NUMBER,
    NUMBER_WORDS,
    OPENING,
    PRONOUNS,
    QUOTES,
    SCALES,
)
from swift_client.answers.values import Value, read_value

MAX_LENGTH = 200  # characters of a sentence
_MAX_WORDS, _MAX_VALUE_WORDS, _MAX_WHOLE_WORDS = 30, 8, 10
# Different sentences whose parts are compared with one another; beyond these only their forms are read.
_MAX_ALIGNED = 32


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to take the answer from a sentence."""

    key: Hashable  # equal for equal answers
    text: str  # normalized
    span: tuple[int, int]  # words of the sentence
    frame: frozenset[str]  # the sentence's other words
    names: frozenset[str]  # names and numbers among them
    is_implied: bool = False  # the form of the sentence implies it, without another text
    # Whether the sentence may as well answer another question: "Einstein is a physicist".
    is_subject: bool = False


@dataclass(frozen=True, slots=True)
class _Sentence:
    words: tuple[str, ...]  # as written, without punctuation around them
    folded: tuple[str, ...]
    written: tuple[str, ...]  # with punctuation


def read_short_answers(statements: Sequence[str | None], values: Sequence[str | None]) -> list[str | None]:
    """Return what is compared between the answers of one question.

    Args:
        statements: (N,) each marked answer as written, or the completion if nothing is marked.
        values: (N,) answers as read so far, normalized; None for a completion without one.

    Returns:
        (N,) ``values`` with the answers in short sentences; equal ones are equal texts.
    """
    texts = [None if text is None else _shorten(text) for text in statements]
    sentences = {text: sentence for text in dict.fromkeys(texts) if text and (sentence := _split(text))}
    readings = {text: list(_read(sentence)) for text, sentence in sentences.items()}
    if not any(readings.values()) and len(sentences) < 2:
        return _repeated_texts(texts, values, {})
    _align(sentences, readings)
    bare: dict[Hashable, str] = {}
    for text, value in zip(texts, values, strict=True):
        if value is not None and not (text and readings.get(text)):
            bare.setdefault(_key(read_value(value)), value)
    chosen: dict[str, tuple[_Reading, bool]] = {}
    for text, options in readings.items():
        reading = _choose(options, bare)
        if reading:
            chosen[text] = reading, reading.key in bare
    accepted = _accept(chosen, Counter(text for text in texts if text in chosen))
    for reading in accepted.values():
        bare.setdefault(reading.key, reading.text)
    answers = {text: bare[reading.key] for text, reading in accepted.items()}
    return _repeated_texts(texts, values, answers)


def _repeated_texts(
    texts: Sequence[str | None], values: Sequence[str | None], answers: dict[str, str]
) -> list[str | None]:
    """Return the answer of each text: its reading, else its value, else all of it if another text is the same."""
    found = [answers.get(text, value) if text else value for text, value in zip(texts, values, strict=True)]
    wholes = [
        read_value(text).text if text and answer is None and len(text.split()) <= _MAX_WHOLE_WORDS else None
        for text, answer in zip(texts, found, strict=True)
    ]
    counts = Counter(wholes)
    return [whole if whole and counts[whole] > 1 else answer for whole, answer in zip(wholes, found, strict=True)]


# --- Sentences


def _shorten(text: str) -> str | None:
    """Return a text of one short line without openings such as "I think"; None for any other."""
    if len(text) > 4 * MAX_LENGTH:
        return None
    text = text.strip().replace("’", "'").replace("**", "")
    if not text or len(text) > MAX_LENGTH or "\n" in text or text.endswith(("?", "？", "؟")):
        return None
    text = CLOSING.sub("", text)
    opening = OPENING.match(text)
    return text[opening.end() :] if opening else text


def _split(text: str) -> _Sentence | None:
    """Split a text into words; None if it is several sentences, or one that may say the opposite."""
    if CJK.search(text):
        match = None if CJK_BLOCKING.search(text) else CJK_IS.fullmatch(text.strip("。.！! "))
        if not match:
            return None
        subject, value = (part for part in match.groups() if part)
        return _Sentence(*[(subject, "is", value)] * 3)
    tokens = text.split()
    if len(tokens) > _MAX_WORDS or len(tokens) < 2:
        return None
    words: list[str] = []
    written: list[str] = []
    for index, token in enumerate(tokens):
        is_last = index == len(tokens) - 1
        word = token.strip(EDGE)
        if ABBREVIATION.fullmatch(token):
            word = token
        elif not is_last and token.rstrip("\"')*_”").endswith((".", "!", "?", ";", ":")):
            return None
        if not word:
            word = token
        lowered = word.casefold()
        if lowered in BLOCKING or lowered.endswith("n't") or (lowered == "may" and word == lowered):
            return None
        stem, mark, _ = word.rpartition("'s")
        at = len(stem) if mark and stem and word.endswith("'s") else 0
        if lowered.startswith(("c'", "l'", "d'")) and len(word) > 2:  # French
            at = 2
        if at:
            words += [word[:at], word[at:]]
            at += token.index(word)
            written += [token[:at], token[at:]]
        else:
            words.append(word)
            written.append(token)
    return _Sentence(tuple(words), tuple(word.casefold() for word in words), tuple(written))


# --- Readings


def _read(sentence: _Sentence) -> Iterator[_Reading]:
    """Yield the readings of a sentence that its own form allows."""
    yield from _read_copula(sentence)
    yield from _read_verb(sentence)
    yield from _read_number(sentence)


def _read_copula(sentence: _Sentence) -> Iterator[_Reading]:
    verb = _find_copula(sentence)
    if verb is None:
        return
    start, stop = verb
    is_german = sentence.folded[start] in COPULAS[1]  # all nouns have capitals
    subject, complement, end = sentence.folded[:start], sentence.folded[stop:], len(sentence.folded)
    is_pronoun = not subject or (len(subject) == 1 and subject[0] in PRONOUNS)
    described = is_pronoun or (_is_led(subject) if is_german else _is_description(sentence, 0, start))
    describes = _is_led(complement) if is_german else _is_description(sentence, stop, end)
    is_definite = describes and complement[0] not in INDEFINITE
    leads = is_pronoun or (described and not describes) or (described == describes and _is_led(subject))
    led_in = LED_IN.match(" ".join(complement))
    # "In" tells apart where and by whom, so it stays unless a bare value shows that it is not meant.
    n_implied = (led_in["name"] or led_in["participle"] or "").count(" ") if led_in else 0
    yield from _make_reading(sentence, stop + n_implied, end, is_implied=leads or n_implied > 0)
    if led_in and led_in[0].count(" ") > n_implied:
        yield from _make_reading(sentence, stop + led_in[0].count(" "), end)
    relative = next((i for i in range(stop + 1, end) if sentence.folded[i] in ("who", "that", "which")), None)
    if is_pronoun and relative:  # "It was Neil Armstrong who ..."
        yield from _make_reading(sentence, stop, relative)
    if _is_led(complement) and not is_pronoun and not COMPARATIVES.intersection(complement):
        yield from _make_reading(sentence, 0, start, is_implied=not described and is_definite, is_subject=True)


def _find_copula(sentence: _Sentence) -> tuple[int, int] | None:
    """Return the start and end of the only verb such as "is", "would be", "'s" after a pronoun; None without one."""
    words = sentence.folded
    for copulas in COPULAS[:1] if not ENGLISH.isdisjoint(words) else COPULAS:
        found = [i for i in range(1, len(words) - 1) if words[i] in copulas and sentence.words[i] == words[i]]
        if copulas is COPULAS[-1] and not "а" <= words[0][:1] <= "я":
            found = []
        if copulas is COPULAS[0]:
            found += [i for i in range(1, len(words) - 1) if words[i] == "'s" and words[i - 1] in PRONOUNS]
            found += [i for i in range(2, len(words) - 1) if words[i] in ("be", "been")]
        if len(found) == 1:
            at = found[0]
            start = at - 1 if words[at] in ("be", "been") else at
            return (start, at + 1) if start > 0 else None
        if found:
            return None
    return (0, 1) if words[0] in FIRST_COPULAS else None


def _is_led(side: Sequence[str]) -> bool:
    """Return whether one side of a copula begins with an article or the like, or has an owner ("Chile's capital")."""
    return bool(side) and (side[0] in DETERMINERS or "'s" in side[:-1])


def _is_description(sentence: _Sentence, start: int, stop: int) -> bool:
    """Return whether a side is led in and has a word in lower case, unlike "The Beatles" and "La Paz"."""
    return _is_led(sentence.folded[start:stop]) and any(
        word == folded and folded not in FUNCTION
        for word, folded in zip(sentence.words[start:stop], sentence.folded[start:stop], strict=True)
    )


def _read_verb(sentence: _Sentence) -> Iterator[_Reading]:
    """Read "Shakespeare" from "Shakespeare wrote Hamlet"."""
    verbs = [index for index, word in enumerate(sentence.words) if index and word in ACTIVE]
    if len(verbs) == 1 and not COMPARATIVES.intersection(sentence.folded) and COPULAS[0].isdisjoint(sentence.folded):
        yield from _make_reading(sentence, 0, verbs[0])


def _read_number(sentence: _Sentence) -> Iterator[_Reading]:
    """Read the only number of a sentence, unless it belongs to a name ("Apollo 11") or is a bound ("at least 16")."""
    words = sentence.words
    numbers = [i for i, word in enumerate(words) if any(map(str.isdigit, word)) or sentence.folded[i] in NUMBER_WORDS]
    start = numbers[0] if numbers else 0
    if not numbers or not NUMBER.fullmatch(words[start]) or BOUNDS.intersection(sentence.folded):
        return
    stop = start + 1
    if numbers[1:] == [stop] and sentence.folded[stop] in SCALES:
        stop += 1
    elif len(numbers) > 1:
        return
    before, after = words[start - 1] if start else "", words[stop] if stop < len(words) else ""
    is_named = before[:1].isupper() and before.casefold() not in FUNCTION
    is_clock = read_value(f"{words[stop - 1]} {after}").kind in ("time", "date")
    if not is_named and not after[:1].isupper() and not is_clock:
        is_implied = _has_verb(sentence) and _find_copula(sentence) is None
        yield from _make_reading(sentence, start, stop, is_implied=is_implied)


def _has_verb(sentence: _Sentence) -> bool:
    """Return whether the words are a sentence, unlike "Battle of Berlin"."""
    return not IN_SENTENCES.isdisjoint(sentence.words)


def _make_reading(
    sentence: _Sentence, start: int, stop: int, *, is_implied: bool = False, is_subject: bool = False
) -> Iterator[_Reading]:
    """Yield the reading of words ``start`` to ``stop`` if they can be a value."""
    if not 0 < stop - start <= _MAX_VALUE_WORDS:
        return
    if any(map(str.isdigit, _join(sentence, start, stop))) and BOUNDS.intersection(sentence.folded[start:stop]):
        return
    value = read_value(_join(sentence, start, stop))
    if not value.text or sentence.folded[stop - 1] in FUNCTION:
        return
    rest = [i for i in range(len(sentence.words)) if not start <= i < stop and sentence.folded[i] not in FUNCTION]
    frame = frozenset(_stem(sentence.folded[i]) for i in rest)
    names = frozenset(_stem(sentence.folded[i]) for i in rest if _is_name(sentence, i))
    yield _Reading(_key(value), value.text, (start, stop), frame, names, is_implied, is_subject)


def _join(sentence: _Sentence, start: int, stop: int) -> str:
    return " ".join(sentence.written[start:stop]).replace(" 's", "'s").strip(QUOTES)


def _is_name(sentence: _Sentence, index: int) -> bool:
    word = sentence.words[index]
    return any(map(str.isdigit, word)) or (index > 0 and word[:1].isupper()) or bool(CJK.search(word))


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") else word


def _key(value: Value) -> Hashable:
    """Return the key of a value, of a name or phrase without its article."""
    article = ARTICLE.match(value.text) if value.kind == "text" else None
    return read_value(value.text[article.end() :]).key if article else value.key


# --- Differences between sentences


def _align(sentences: dict[str, _Sentence], readings: dict[str, list[_Reading]]) -> None:
    """Add to each sentence's readings the part in which it differs from others with the same words around it."""
    spans: dict[str, Counter[tuple[int, int]]] = {}
    names = sorted(name for name, sentence in sentences.items() if _has_verb(sentence))[:_MAX_ALIGNED]
    for a, b in combinations(names, 2):
        left, right = sentences[a].folded, sentences[b].folded
        shortest = min(len(left), len(right))
        prefix = next((i for i in range(shortest) if left[i] != right[i]), shortest)
        limit = shortest - prefix
        suffix = next((i for i in range(limit) if left[-1 - i] != right[-1 - i]), limit)
        same, longest = prefix + suffix, max(len(left), len(right))
        if same == shortest or same < 2 or longest - same > min(same, _MAX_VALUE_WORDS):
            continue
        middles = left[prefix : len(left) - suffix], right[prefix : len(right) - suffix]
        if any(FUNCTION.issuperset(words) or not IN_SENTENCES.isdisjoint(words) for words in middles):
            continue
        for name, words in ((a, left), (b, right)):
            span = _extend(sentences[name], prefix, len(words) - suffix)
            spans.setdefault(name, Counter())[span] += 1
    for name, counts in spans.items():
        ranked = counts.most_common(2)
        (start, stop), count = ranked[0]
        is_within = any(r.is_implied and r.span[0] <= start and stop <= r.span[1] for r in readings[name])
        if is_within or (len(ranked) > 1 and ranked[1][1] == count):
            continue
        kept = [reading for reading in readings[name] if reading.span != (start, stop)]
        # The sentence says in which part it differs; its form is then no longer a reason.
        readings[name] = [
            *_make_reading(sentences[name], start, stop, is_implied=True),
            *(replace(reading, is_implied=False) for reading in kept),
        ]


def _extend(sentence: _Sentence, start: int, stop: int) -> tuple[int, int]:
    """Extend a difference to all of a name: of "William Shakespeare" and "William Marlowe" not only the last word."""

    def belongs(index: int) -> bool:
        return sentence.words[index][:1].isupper() and sentence.folded[index] not in FUNCTION

    while start > 0 and belongs(start - 1) and belongs(start):
        start -= 1
    while stop < len(sentence.words) and belongs(stop) and belongs(stop - 1):
        stop += 1
    return start, stop


# --- The choice of readings


def _choose(options: Sequence[_Reading], bare: dict[Hashable, str]) -> _Reading | None:
    """Return the reading that is also a bare value, else the implied one; None if two are bare values."""
    matching = [reading for reading in options if reading.key in bare]
    if len({reading.key for reading in matching}) > 1:
        return None
    return next(iter([*matching, *(reading for reading in options if reading.is_implied)]), None)


def _accept(chosen: dict[str, tuple[_Reading, bool]], counts: Counter[str]) -> dict[str, _Reading]:
    """Return the readings without those whose frame contradicts the frame of a more frequent equal reading.

    Between sentences whose readings are bare values only names and numbers of the frames have to agree, unless one is
    the subject of a sentence.
    """
    accepted: dict[Hashable, list[tuple[_Reading, bool]]] = {}
    result = {}
    for text in sorted(chosen, key=lambda text: (-counts[text], text)):
        reading, is_bare = chosen[text]
        is_sure = is_bare and not reading.is_subject
        equal_readings = accepted.setdefault(reading.key, [])
        if all(_agree(reading, other, by_names=is_sure and other_sure) for other, other_sure in equal_readings):
            equal_readings.append((reading, is_sure))
            result[text] = reading
    return result


def _agree(a: _Reading, b: _Reading, *, by_names: bool) -> bool:
    left, right = (a.names, b.names) if by_names else (a.frame, b.frame)
    return left <= right or right <= left

"""Last letters of several words, concatenated (Wei et al. 2022, arXiv:2201.11903), with invented words.

With more words, one step of a solution may cover more of them: careful solutions go word by word, hasty ones take many
at once.
"""

from __future__ import annotations

from functools import partial
from random import Random

from swift_client.pocket.problems import Problem

# Minimum and maximum number of words, by level: 2 to 4 at the first, 26 to 28 at the last.
LEVELS = tuple((3 * level - 1, 3 * level + 1) for level in range(1, 10))

_ONSETS = "b bl br c cl d dr f fl g gr h j k kl l m n p pl pr qu r s sk st t tr v w z".split()  # noqa: SIM905
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ou")
_ENDINGS = "abcdefghiklmnoprstuvwxyz"
_QUESTION_TEMPLATES = (
    'Take the last letters of the words in "{words}" and concatenate them.',
    'Concatenate the last letter of each word: "{words}".',
    'Which string do the last letters of these words make? "{words}"',
)
_OPENERS = ("", "Let me read the ends. ", "Word by word. ", "In order. ", "Take them in groups. ")
_WORD_TEMPLATES = ("{word}: {letters}.", "From {word}: {letters}.", "At {word} we get {letters}.", "{word} {letters}.")
_LETTERS_TEMPLATES = ("Then {letters}.", "Next: {letters}.", "Now {letters}.", "{letters}.")
_CLOSERS = ("", "", "Joined together. ", "That is all. ", "Put together: ")


def draw(rng: Random, level: int) -> Problem:
    """Draw as many invented words as ``level`` (1 to ``len(LEVELS)``) says."""
    words = tuple(_invent_word(rng) for _ in range(rng.randint(*LEVELS[level - 1])))
    answer = "".join(word[-1] for word in words)
    prompt = rng.choice(_QUESTION_TEMPLATES).format(words=" ".join(words))
    return Problem(prompt, answer, partial(_solve, words, answer))


def _invent_word(rng: Random) -> str:
    syllables = (rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.choice((1, 1, 2, 2, 3))))
    return "".join(syllables) + rng.choice(_ENDINGS)


def _solve(words: tuple[str, ...], answer: str, rng: Random) -> str:
    stride = rng.randint(1, len(words) // 3 + 1)
    named, spelled = stride < 3 or rng.random() < 0.6, rng.random() < 0.75
    text, start = rng.choice(_OPENERS), 0
    while start < len(words):
        stop = start + rng.randint(max(1, stride - 1), stride + 1)
        letters = (" " if spelled else "").join(answer[start:stop])
        template = rng.choice(_WORD_TEMPLATES if named else _LETTERS_TEMPLATES)
        text += template.format(word=words[start], letters=letters) + " "
        start = stop
    return text + rng.choice(_CLOSERS) + f"The answer is {answer}."

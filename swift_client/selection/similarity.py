"""Similarity of texts: matrices of counted words and characters, as products of numpy matrices.

Texts are untrusted: any str is allowed, also empty ones, NUL and lone surrogates. Of N texts, the first
``readable_characters(N)`` characters of each are compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from swift_client.features.segments import F64, I64

# From M texts to their similarities (M, M), 0..1: entry (i, j) is that of text i to text j.
SimilarityFunction = Callable[[Sequence[str]], F64]

# Limits of what is compared, in characters per text and of all texts together.
_MAX_CHARACTERS, _MAX_TOTAL = 20_000, 4_000_000
# A word, or one character of a script that puts no spaces between words.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_MAX_SHARE = 0.8  # "content": largest share of the texts that have a word that counts
_CHRF_ORDER, _CHRF_BETA = 6, 2.0
_BLOCK = 4_000_000  # cells of one block of a binary matrix, 16 MB


def readable_characters(n_texts: int) -> int:
    """Return the number of characters that are compared of each of ``n_texts`` texts."""
    return min(_MAX_CHARACTERS, _MAX_TOTAL // max(n_texts, 1))


def token_f1(texts: Sequence[str]) -> F64:
    """Return the F1 of words, counted as often as they occur, (M, M), symmetric.

    As the F1 of SQuAD (arXiv 1606.05250): 2 · shared words / (words of both), in lower case without punctuation.
    Articles count, punctuation separates words, and each character of Chinese, Japanese, Korean and Thai is a word.
    Two texts without words are equal: 1.
    """
    rows, words = _number(_words(texts))
    shared, lengths = _shared_counts(rows, words, len(texts))
    totals = lengths[:, None] + lengths[None, :]
    return _with_diagonal(np.where(totals > 0, 2 * shared / np.maximum(totals, 1), 1.0))


def chrf(texts: Sequence[str]) -> F64:
    """Return the mean of chrF in both directions, (M, M), symmetric.

    chrF (Popović 2015, aclanthology W15-3049) as sacrebleu computes it for one sentence by default: n-grams of 1 to 6
    characters without white space, β = 2, precision and recall averaged over the orders that both texts have. It
    weighs recall of the reference higher; neither text is the reference here, so each is it once. Two texts without
    characters are equal: 1.
    """
    count = len(texts)
    rows, characters = _characters(["".join(text[: readable_characters(count)].split()) for text in texts])
    precision, n_orders = np.zeros((count, count)), np.zeros((count, count))
    grams, starts = characters, np.arange(len(characters))
    for order in range(1, _CHRF_ORDER + 1):
        if order > 1:  # extend each n-gram by the character after it, where the text goes on
            goes_on = (starts + order - 1 < len(rows)) & (
                rows[np.minimum(starts + order - 1, len(rows) - 1)] == rows[starts]
            )
            starts = starts[goes_on]
            grams = _rank(grams[goes_on] * (int(characters.max(initial=0)) + 1) + characters[starts + order - 1])
        if not len(starts):
            break
        shared, lengths = _shared_counts(rows[starts], grams, count)
        has_both = (lengths > 0)[:, None] & (lengths > 0)[None, :]
        precision += np.where(has_both, shared / np.maximum(lengths, 1)[:, None], 0.0)
        n_orders += has_both
    precision /= np.maximum(n_orders, 1)
    recall = precision.T  # the precision of the other text
    factor = _CHRF_BETA**2
    scores = (1 + factor) * precision * recall / np.maximum(factor * precision + recall, 1e-300)
    is_empty = np.bincount(rows, minlength=count) == 0
    return _with_diagonal(np.where(is_empty[:, None] & is_empty[None, :], 1.0, (scores + scores.T) / 2))


def content(texts: Sequence[str]) -> F64:
    """Return the share of text i's content words that text j has, (M, M), not symmetric.

    Content words are those that at most 80 % of the texts have: the others are what all sentences repeat of the
    question. Each counts once. A text without content words shares none. Own measure; see ``docs/benchmarks.md``.
    """
    count = len(texts)
    rows, words = _number(_words(texts))
    if not len(words):
        return np.eye(count)
    cells = np.unique(rows * (int(words.max()) + 1) + words)
    rows, words = np.divmod(cells, int(words.max()) + 1)
    counts = (np.bincount(words) <= _MAX_SHARE * count)[words]
    shared, lengths = _shared_counts(rows[counts], words[counts], count)
    return _with_diagonal(shared / np.maximum(lengths, 1)[:, None])


# The similarities that need nothing but the texts.
SIMILARITIES: Mapping[str, SimilarityFunction] = MappingProxyType(
    {"content": content, "token_f1": token_f1, "chrf": chrf}
)


def cosine(vectors: F64) -> F64:
    """Return the cosines of M vectors (M, D), those below 0 as 0, (M, M), symmetric; 0 for a vector of zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(lengths > 0, lengths, 1.0)
    return _with_diagonal(np.clip(units @ units.T, 0.0, 1.0))


def _words(texts: Sequence[str]) -> list[list[str]]:
    limit = readable_characters(len(texts))
    return [_WORD.findall(text[:limit].casefold()) for text in texts]


def _number(lists: Sequence[Sequence[str]]) -> tuple[I64, I64]:
    """Return the text of each word and the word's number, each (words of all texts,)."""
    numbers: dict[str, int] = {}
    words = np.array([numbers.setdefault(word, len(numbers)) for words in lists for word in words], np.int64)
    return np.repeat(np.arange(len(lists)), [len(words) for words in lists]), words


def _characters(texts: Sequence[str]) -> tuple[I64, I64]:
    """Return the text of each character and the character's rank, each (characters of all texts,)."""
    data = "".join(texts).encode("utf-32-le", "surrogatepass")
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    return rows, _rank(np.frombuffer(data, np.uint32).astype(np.int64))


def _rank(values: I64) -> I64:
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def _shared_counts(rows: I64, items: I64, count: int) -> tuple[F64, F64]:
    """Return Σ over items of min(count in text i, count in text j), (M, M), and the number of items per text, (M,).

    The k-th occurrence of an item in a text is a column of a binary matrix; the product with its transpose counts the
    columns that two texts share.
    """
    lengths = np.bincount(rows, minlength=count).astype(np.float64)
    # 1. Number the occurrences of each item within each text, from 0.
    width = int(items.max(initial=0)) + 1
    cells = np.sort(rows * width + items)
    is_new = np.concatenate([[True], cells[1:] != cells[:-1]])[: len(cells)]
    begins = np.flatnonzero(is_new)
    occurrence = np.arange(len(cells)) - np.repeat(begins, np.diff([*begins, len(cells)]))
    rows, items = np.divmod(cells, width)
    # 2. Number the columns that at least two texts have: others add nothing off the diagonal.
    columns = _rank(items * (int(occurrence.max(initial=0)) + 1) + occurrence)
    is_shared = np.bincount(columns) > 1 if len(columns) else np.zeros(0, np.bool_)
    kept = is_shared[columns]
    rows, columns = rows[kept], (np.cumsum(is_shared) - 1)[columns[kept]]
    # 3. Multiply in blocks of columns. float32 is exact for such counts.
    shared, n_shared = np.zeros((count, count)), int(is_shared.sum())
    step = max(1, min(n_shared, _BLOCK // max(count, 1)))
    by_column = columns.argsort(kind="stable")
    rows, columns = rows[by_column], columns[by_column]
    for start in range(0, n_shared, step):
        first, last = np.searchsorted(columns, [start, start + step])
        block = np.zeros((count, step), np.float32)
        block[rows[first:last], columns[first:last] - start] = 1.0
        shared += block @ block.T
    np.fill_diagonal(shared, lengths)
    return shared, lengths


def _with_diagonal(matrix: F64) -> F64:
    """Set the diagonal to 1, which rounding may have missed."""
    np.fill_diagonal(matrix, 1.0)
    return matrix

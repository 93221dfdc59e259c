"""Tests of the similarity of texts, against plain loops, hand-computed numbers and sacrebleu."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swift_client.features.segments import F64
from swift_client.selection.similarity import SIMILARITIES, chrf, content, cosine, readable_characters, token_f1

# Texts with every kind of character that a reply may hold, lone surrogates and NUL included, and with few letters, so
# that texts share n-grams.
ANY_TEXT = st.one_of(
    st.text(alphabet=st.characters(), max_size=30),
    st.text(alphabet="ab .\0\ud800東京é", max_size=30),
)
TEXTS = st.lists(ANY_TEXT, min_size=1, max_size=7)
# Latin words only, for which \w+ is the definition of a word.
LATIN = st.lists(st.text(alphabet="abAB12 .,-\n", max_size=40), min_size=1, max_size=6)


def loop(texts: Sequence[str], similarity: Callable[[str, str], float]) -> F64:
    return np.array([[similarity(a, b) for b in texts] for a in texts])


def f1_of_pair(a: str, b: str) -> float:
    one, two = (Counter(re.findall(r"\w+", text.lower())) for text in (a, b))
    if not one and not two:
        return 1.0
    return 2 * (one & two).total() / (one.total() + two.total())


def chrf_of_pair(hypothesis: str, reference: str) -> float:
    one, two = ("".join(text.split()) for text in (hypothesis, reference))
    if not one and not two:
        return 1.0
    precisions, recalls = [], []
    for order in range(1, 7):
        grams = [Counter(text[start : start + order] for start in range(len(text) - order + 1)) for text in (one, two)]
        if grams[0] and grams[1]:
            shared = (grams[0] & grams[1]).total()
            precisions.append(shared / grams[0].total())
            recalls.append(shared / grams[1].total())
    precision, recall = (sum(values) / len(values) if values else 0.0 for values in (precisions, recalls))
    return 5 * precision * recall / (4 * precision + recall) if precision + recall else 0.0


@given(LATIN)
def test_token_f1_is_that_of_counted_words(texts: list[str]) -> None:
    np.testing.assert_allclose(token_f1(texts), loop(texts, f1_of_pair), atol=1e-12)


@given(TEXTS)
def test_chrf_is_the_mean_of_both_directions_of_a_plain_loop(texts: list[str]) -> None:
    one_way = loop(texts, chrf_of_pair)
    np.fill_diagonal(one_way, 1.0)
    np.testing.assert_allclose(chrf(texts), (one_way + one_way.T) / 2, atol=1e-12)


def test_chrf_is_that_of_sacrebleu() -> None:
    metrics = pytest.importorskip("sacrebleu.metrics")
    metric = metrics.CHRF()
    texts = [
        "The capital of Australia is Canberra.",
        "Canberra is the capital city of Australia",
        "Sydney!",
        "  white   space  counts\tnothing ",
        "aaaa aaaa",
        "aa",
        "東京は日本の首都です。",
        "Ünïcödé — and a dash",
    ]
    expected = np.array(
        [
            [
                (metric.sentence_score(a, [b]).score + metric.sentence_score(b, [a]).score) / 200 if a != b else 1.0
                for b in texts
            ]
            for a in texts
        ]
    )
    np.testing.assert_allclose(chrf(texts), expected, atol=1e-9)


def test_scores_by_hand() -> None:
    # Words: the cat sat / the cat ran fast: 2 shared of 3 + 4.
    assert token_f1(["The cat sat.", "the cat ran fast"])[0, 1] == pytest.approx(4 / 7)
    # A word that one text has twice and the other once is shared once.
    assert token_f1(["no no", "no"])[0, 1] == pytest.approx(2 / 3)
    # Each Chinese character is a word: 首都 of 北京首都 and 首都东京.
    assert token_f1(["北京首都", "首都东京"])[0, 1] == pytest.approx(6 / 8)
    # abc, abd: 2 of 3 characters, 1 of 2 pairs, 0 of 1 triple: precision and recall (2/3 + 1/2) / 3.
    assert chrf(["abc", "abd"])[0, 1] == pytest.approx(7 / 18)
    # sacrebleu 2.6.0: CHRF().sentence_score() of this pair is 29.2023 one way and 37.8638 the other.
    pair = ["the cat is on the mat", "the cat sat on a mat by the door"]
    assert chrf(pair)[0, 1] == pytest.approx((0.29202269532386666 + 0.3786380057338446) / 2)


def test_content_counts_words_that_at_most_80_percent_have() -> None:
    texts = ["It is Paris.", "It is Paris!", "It is Rome", "Maybe it is Paris", "It is Paris in France"]
    similarity = content(texts)
    # "it" and "is" are in all five texts; "paris" is in 4 of 5, which is not more than 80 %.
    assert similarity[0].tolist() == [1, 1, 0, 1, 1]
    # Of "maybe" and "paris" the others have "paris"; of "paris", "in", "france" too.
    assert similarity[3].tolist() == [0.5, 0.5, 0, 1, 0.5]
    assert similarity[4].tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3, 1])
    assert similarity[2].tolist() == [0, 0, 1, 0, 0]
    # All words are in all texts: nothing tells them apart.
    assert content(["a b", "b a"]).tolist() == np.eye(2).tolist()


@pytest.mark.parametrize("name", SIMILARITIES)
@given(texts=TEXTS, seed=st.integers(0, 99))
@settings(max_examples=60)
def test_similarities_are_shares_and_follow_the_order_of_the_texts(name: str, texts: list[str], seed: int) -> None:
    similarity = SIMILARITIES[name](texts)
    assert similarity.shape == (len(texts), len(texts))
    assert (similarity >= 0).all()
    assert (similarity <= 1 + 1e-12).all()
    assert (np.diag(similarity) == 1).all()
    order = np.random.default_rng(seed).permutation(len(texts))
    permuted = SIMILARITIES[name]([texts[index] for index in order])
    np.testing.assert_allclose(permuted, similarity[np.ix_(order, order)], atol=1e-12)
    if name != "content":
        np.testing.assert_array_equal(similarity, similarity.T)
        equal = np.array([[a == b for b in texts] for a in texts])
        np.testing.assert_allclose(similarity[equal], 1.0)


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize(
    "texts", [[""], ["", ""], ["", "a"], ["\0", "\0\0"], ["\ud800", "\udfff\ud800"], ["." * 50, " \n\t"]]
)
def test_texts_without_words_or_valid_characters_have_similarities(name: str, texts: list[str]) -> None:
    similarity = SIMILARITIES[name](texts)
    assert np.isfinite(similarity).all()
    assert (np.diag(similarity) == 1).all()


def test_only_the_beginning_of_a_huge_text_is_compared() -> None:
    limit = readable_characters(2)
    start = "a" * limit
    for name in ("token_f1", "chrf"):
        assert SIMILARITIES[name]([start + "b" * 3_000_000, start + "c" * 3_000_000])[0, 1] == 1
    assert readable_characters(1) == readable_characters(200) == 20_000
    assert readable_characters(1000) == 4_000


def test_blocks_of_columns_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = Random(0)
    texts = ["".join(rng.choice("abc ") for _ in range(60)) for _ in range(9)]
    whole = {name: function(texts) for name, function in SIMILARITIES.items()}
    monkeypatch.setattr("swift_client.selection.similarity._BLOCK", 9 * 7)
    for name, function in SIMILARITIES.items():
        np.testing.assert_allclose(function(texts), whole[name], atol=1e-12)


def test_cosines_of_vectors() -> None:
    vectors = np.array([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]])
    half = np.sqrt(0.5)
    expected = [[1, 1, half, 0, 0], [1, 1, half, 0, 0], [half, half, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    np.testing.assert_allclose(cosine(vectors), expected, atol=1e-12)


def long_texts(count: int, characters: int) -> list[str]:
    rng = Random(1)
    words = ["".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 9))) for _ in range(3000)]
    base = [rng.choice(words) for _ in range(characters // 4)]
    return [
        " ".join(word if rng.random() < 0.6 else rng.choice(words) for word in base)[:characters] for _ in range(count)
    ]


def seconds(function: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def test_pairs_cost_little_beside_reading_the_texts() -> None:
    # A loop over pairs in Python takes 64 x 63 / 2 times as long as one pair; counting once per text must not.
    texts = long_texts(64, 2_000)
    pair = seconds(lambda: [chrf_of_pair(texts[0], texts[1]) for _ in range(4)]) / 4
    assert seconds(lambda: chrf(texts)) < 64 * 63 / 2 * pair / 8
    pair = seconds(lambda: [f1_of_pair(texts[0], texts[1]) for _ in range(20)]) / 20
    assert seconds(lambda: token_f1(texts)) < 64 * 63 / 2 * pair / 4

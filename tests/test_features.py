"""Tests of features against plain loops over tokens, and of the properties that a head relies on."""

from __future__ import annotations

import math
import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scorio import agg

from swift_client.errors import ConfigurationError
from swift_client.features import (
    DEFAULT_FEATURES,
    FEATURES,
    RESPONSE_TERMS,
    THINKING_TERMS,
    WIDTH,
    TokenTable,
    column_names,
    response_columns,
    response_terms,
    token_features,
)
from swift_client.features.segments import segment_blocks, segment_offsets
from swift_client.types import Completion

TEXTS = (
    *(f"t{i}" for i in range(40)),
    " the",
    "word",
    "7",
    " 12",
    "٣",
    "²",
    "",
    " ",
    "\n\n",
    "=",
    ".",
    " -",
    "é",
    "日本",
)
ALL_FEATURES = tuple(FEATURES)
ALL_TERMS = tuple(RESPONSE_TERMS)


def make(length: int, ranks: int, seed: int, *, gaps: bool = False, censor: bool = False, index: int = 0) -> Completion:
    """Draw a completion; with ``gaps`` tokens list fewer ranks at random, with ``censor`` each is censored."""
    rng = np.random.default_rng([seed, length, ranks])
    logits = np.sort(rng.normal(scale=3, size=(length, ranks + 30)), axis=1)[:, ::-1]
    logprobs = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)
    chosen_ranks = np.minimum(rng.geometric(0.6, size=length) - 1, ranks + 29)
    top = logprobs[:, :ranks].copy()
    if gaps:
        top[np.arange(ranks) >= rng.integers(0, ranks + 1, size=length)[:, None]] = -np.inf
    return Completion(
        text="x" * length,
        index=index,
        tokens=tuple(TEXTS[i] for i in rng.integers(0, len(TEXTS), size=length)),
        logprobs=logprobs[np.arange(length), chosen_ranks],
        top_logprobs=top,
        censored=np.full(length, censor),
        top_ids=rng.integers(0, 2**32, size=(length, ranks), dtype=np.uint32),
    )


completions = st.builds(
    make,
    length=st.integers(0, 70),
    ranks=st.integers(0, 6),
    seed=st.integers(0, 10**6),
    gaps=st.booleans(),
    censor=st.booleans(),
)


def expected_tokens(completion: Completion, width: int) -> dict[str, list[float]]:
    """Return every feature of one completion from its definition, token by token, in plain Python."""
    rows: dict[str, list[float]] = {name: [] for name in column_names(FEATURES, ALL_FEATURES, width=width)}
    chosen_logprobs = [float(value) for value in completion.logprobs]
    history: dict[str, list[float]] = {"entropy": [], "confidence": []}
    for t, own in enumerate(chosen_logprobs):
        top = [float(v) for v in completion.top_logprobs[t] if v > -np.inf][:width]
        p = [math.exp(v) for v in top]
        mass, k = sum(p), len(top)
        tail = max(0.0, 1.0 - mass) if k else 0.0
        partial = -sum(a * b for a, b in zip(p, top, strict=True))
        bucketed = partial - (tail * math.log(tail) if tail else 0.0)
        share = [a / mass for a in p]
        entropy = -sum(a * math.log(a) for a in share if a)
        confidence = -sum(top) / k if k else 0.0
        history["entropy"].append(bucketed)
        history["confidence"].append(confidence)
        hidden = bool(completion.censored[t])

        def decision(own: float = own, top: list[float] = top, hidden: bool = hidden) -> float:
            other = top[1] if own == top[0] and not hidden else top[0]
            pc = 1 / (1 + math.exp(other - own))
            return -pc * math.log(pc) - (1 - pc) * math.log(1 - pc) if 0 < pc < 1 else 0.0

        def window(values: list[float], size: int, t: int = t) -> list[float]:
            return values[max(0, t + 1 - size) : t + 1]

        put = {
            "logprob": own,
            "censored": float(hidden),
            "position": math.log(1 + t),
            "listed": k / width,
            "log_rank": math.log(1 + (k if hidden else sum(v > own for v in top))),
            "gap_to_top": own - top[0] if k else 0.0,
            "margin": top[0] - top[1] if k > 1 else 0.0,
            "probability_margin": p[0] - p[1] if k > 1 else 0.0,
            "tail_mass": tail,
            "partial_entropy": partial,
            "entropy": bucketed,
            "renormalised_entropy": entropy,
            "varentropy": sum(a * (-math.log(a) - entropy) ** 2 for a in share if a),
            "confidence": confidence,
            "self_certainty": -math.log(k) - sum(math.log(a) for a in share) / k if k > 1 else 0.0,
            "decision_entropy": decision() if k > 1 else 0.0,
            "logprob_mean_16": float(np.mean(window(chosen_logprobs, 16))),
            "logprob_mean_64": float(np.mean(window(chosen_logprobs, 64))),
            "logprob_min_16": min(window(chosen_logprobs, 16)),
            "logprob_min_64": min(window(chosen_logprobs, 64)),
            "entropy_mean_16": float(np.mean(window(history["entropy"], 16))) if k else 0.0,
            "confidence_mean_16": float(np.mean(window(history["confidence"], 16))) if k else 0.0,
        }
        text = completion.tokens[t]
        digits = any(letter.isdigit() for letter in text)
        put |= {
            "number": float(digits),
            "number_logprob": own if digits else 0.0,
            "number_entropy": bucketed if digits and k else 0.0,
            "symbol": float(not any(letter.isalnum() for letter in text)),
            "starts_word": float(text != "" and text[0].isspace()),
            "characters": math.log(1 + len(text.strip())),
        }
        before = rows["decision_entropy"][-1] if t else put["decision_entropy"]
        put["decision_entropy_change"] = put["decision_entropy"] - before if k > 1 else 0.0
        for rank in range(width):
            put[f"rank_surprise_{rank + 1}"] = -p[rank] * top[rank] if rank < k else 0.0
        for bucket in range(128):
            put[f"token_hash_{bucket + 1}"] = float(zlib.crc32(completion.tokens[t].encode()) % 128 == bucket)
            ids = completion.top_ids[t] if completion.top_ids is not None else []
            put[f"alternatives_hash_{bucket + 1}"] = sum(
                a for a, i in zip(p, ids, strict=False) if int(i) % 128 == bucket
            )
        for name, value in put.items():
            rows[name].append(value)
    return rows


@settings(deadline=None, max_examples=60)
@given(completion=completions, width=st.integers(1, 8))
def test_every_feature_is_its_definition_worked_out_token_by_token(completion: Completion, width: int) -> None:
    features = token_features([completion], ALL_FEATURES, width=width)
    expected = expected_tokens(completion, width)
    assert tuple(expected) == features.names
    for column, name in enumerate(features.names):
        np.testing.assert_allclose(features.values[:, column], expected[name], rtol=2e-5, atol=2e-6, err_msg=name)


@settings(deadline=None, max_examples=60)
@given(completion=completions, width=st.integers(1, 8))
def test_every_response_term_is_its_definition_worked_out_with_numpy_on_one_answer(
    completion: Completion, width: int
) -> None:
    terms = response_terms([completion], ALL_TERMS, width=width)
    chosen_logprobs, length = completion.logprobs.astype(np.float64), len(completion.tokens)
    tokens = expected_tokens(completion, width)
    entropy, confidence = np.array(tokens["entropy"]), np.array(tokens["confidence"])
    number = np.array(tokens["number"]) == 1
    expected = dict.fromkeys(terms.names, 0.0) | {"agreement": 0.5}
    if length:
        window = min(length, max(16, math.ceil(0.1 * length)))
        groups = np.sort(np.convolve(confidence, np.ones(window) / window, "valid"))
        expected |= {
            "log_length": math.log(1 + length),
            "sum_logprob": chosen_logprobs.sum(),
            "min_logprob": chosen_logprobs.min(),
            "logprob_q01": np.quantile(chosen_logprobs, 0.01),
            "logprob_q05": np.quantile(chosen_logprobs, 0.05),
            "logprob_q10": np.quantile(chosen_logprobs, 0.1),
            "logprob_q25": np.quantile(chosen_logprobs, 0.25),
            "tail_logprob": chosen_logprobs[-window:].mean(),
            "share_below_50": (np.exp(chosen_logprobs) < 0.5).mean(),
            "share_below_10": (np.exp(chosen_logprobs) < 0.1).mean(),
            "share_below_01": (np.exp(chosen_logprobs) < 0.01).mean(),
            "sum_entropy": entropy.sum(),
            "max_entropy": entropy.max(),
            "tail_confidence": confidence[-window:].mean(),
            "bottom_confidence": groups[: max(1, int(0.1 * len(groups)))].mean(),
            "lowest_confidence": groups[0],
            "number_share": np.mean(number),
            "sum_number_logprob": chosen_logprobs[number].sum(),
            "min_number_logprob": min(chosen_logprobs[number], default=0.0),
            "sum_number_entropy": entropy[number].sum(),
            "distinct_share": len(set(completion.tokens)) / length,
            "mean_logprob": chosen_logprobs.mean(),
            "mean_entropy": entropy.mean(),
            "mean_confidence": confidence.mean(),
        } | {f"max_rank_surprise_{i}": max(tokens[f"rank_surprise_{i}"]) for i in range(1, width + 1)}
    np.testing.assert_allclose(terms.values[0], list(expected.values()), rtol=2e-5, atol=2e-6)
    thoughtful = response_terms([Completion(text="", thinking=completion)], THINKING_TERMS, width=width)
    own = {f"thinking_{name}": value for name, value in expected.items() if name != "agreement"}
    np.testing.assert_allclose(thoughtful.values[0], [own[name] for name in thoughtful.names], rtol=2e-5, atol=2e-6)


def test_agreement_counts_the_other_whole_completions_with_the_same_answer() -> None:
    pool = [Completion(text="", index=i, finish_reason="length" if i == 3 else "stop") for i in range(6)]
    table = TokenTable(pool, width=2, groups=(0, 0, 1, 0, None, 0))
    # Five are whole (all but the fourth); three of them say 0.
    expected = [2.5 / 5, 2.5 / 5, 0.5 / 5, 3.5 / 6, 0.5 / 5, 2.5 / 5]
    assert response_columns(table, ("agreement",)).values[:, 0] == pytest.approx(expected)


def test_agreement_is_one_half_where_nothing_is_known_of_the_others() -> None:
    table = TokenTable([Completion(text="")], width=2, groups=(0,))
    unread = TokenTable([Completion(text=""), Completion(text="")], width=2)
    assert response_columns(table, ("agreement",)).values.tolist() == [[0.5]]
    assert response_columns(unread, ("agreement",)).values.tolist() == [[0.5], [0.5]]


@pytest.mark.parametrize(
    ("feature", "peer"),
    [
        ("renormalised_entropy", agg.token_entropy),
        ("varentropy", agg.varentropy),
        ("self_certainty", agg.self_certainty),
        ("margin", agg.logprob_margin),
        ("probability_margin", lambda top: agg.logprob_margin(top, use_prob=True)),
        ("confidence", lambda top: agg.token_confidence(top).mean()),
    ],
)
def test_features_agree_with_scorio(feature: str, peer) -> None:  # type: ignore[no-untyped-def]
    completion = make(200, 20, seed=3)
    value = token_features([completion], [feature]).values.mean(dtype=np.float64)
    assert value == pytest.approx(peer(completion.top_logprobs.astype(np.float64)), rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(completion=completions, length=st.integers(0, 70))
def test_a_token_knows_nothing_of_what_follows(completion: Completion, length: int) -> None:
    prefix = replace(
        completion,
        tokens=completion.tokens[:length],
        logprobs=completion.logprobs[:length],
        top_logprobs=completion.top_logprobs[:length],
        censored=completion.censored[:length],
        top_ids=None if completion.top_ids is None else completion.top_ids[:length],
    )
    full_values = token_features([completion], ALL_FEATURES).values
    np.testing.assert_array_equal(token_features([prefix], ALL_FEATURES).values, full_values[:length])


@settings(deadline=None, max_examples=40)
@given(group=st.lists(completions, max_size=5), seed=st.integers(0, 100))
def test_a_completion_has_the_same_features_wherever_it_stands_to_the_last_bit(
    group: list[Completion], seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(group))
    straight, mixed = (token_features(completions, ALL_FEATURES) for completions in (group, [group[i] for i in order]))
    straight_terms, turned = (
        response_terms(completions, ALL_TERMS).values for completions in (group, [group[i] for i in order])
    )
    np.testing.assert_array_equal(turned, straight_terms[order])
    for place, source in enumerate(order):
        np.testing.assert_array_equal(
            mixed.values[mixed.offsets[place] : mixed.offsets[place + 1]],
            straight.values[straight.offsets[source] : straight.offsets[source + 1]],
        )
        single_values = token_features([group[source]], ALL_FEATURES).values
        np.testing.assert_array_equal(mixed.values[mixed.offsets[place] : mixed.offsets[place + 1]], single_values)


@settings(deadline=None, max_examples=40)
@given(completion=completions, extra=st.integers(1, 30))
def test_empty_ranks_change_no_feature(completion: Completion, extra: int) -> None:
    length = len(completion.tokens)
    padding = np.full((length, extra), -np.inf, np.float32)
    ids = completion.top_ids
    padded = replace(
        completion,
        top_logprobs=np.concatenate([completion.top_logprobs, padding], axis=1),
        top_ids=None if ids is None else np.concatenate([ids, np.zeros((length, extra), np.uint32)], axis=1),
    )
    for compute, names in ((token_features, ALL_FEATURES), (response_terms, ALL_TERMS)):
        np.testing.assert_array_equal(compute([padded], names).values, compute([completion], names).values)


@settings(deadline=None, max_examples=40)
@given(completion=completions, k=st.integers(0, 8))
def test_reading_k_ranks_is_the_same_as_getting_k_ranks(completion: Completion, k: int) -> None:
    cut_completion = replace(completion, top_logprobs=completion.top_logprobs[:, :k])
    for compute, names in ((token_features, ALL_FEATURES), (response_terms, ALL_TERMS)):
        np.testing.assert_array_equal(
            compute([completion], names, k=k, width=5).values, compute([cut_completion], names, width=5).values
        )


@pytest.mark.parametrize("length", [0, 1, 2, 65])
@pytest.mark.parametrize("ranks", [0, 1, 2, 20, 25])
@pytest.mark.parametrize("censor", [False, True])
def test_features_are_finite_whatever_is_missing(length: int, ranks: int, censor: bool) -> None:
    group = [make(length, ranks, 1, censor=censor), make(0, 0, 1), make(length, ranks, 2, gaps=True)]
    features, terms = token_features(group, ALL_FEATURES), response_terms(group, ALL_TERMS)
    assert features.values.shape == (2 * length, len(features.names))
    assert features.offsets.tolist() == [0, length, length, 2 * length]
    assert terms.values.shape == (3, len(terms.names))
    assert features.values.dtype == terms.values.dtype == np.float32
    assert np.isfinite(features.values).all()
    assert np.isfinite(terms.values).all()


def test_extreme_and_foreign_numbers_stay_finite() -> None:
    strange = Completion(
        text="strange",
        tokens=("a", "\ud800", "c", "d"),
        logprobs=np.array([-9999.0, 1e-5, -np.inf, -99.0], np.float32),
        top_logprobs=np.array(
            [[0.0, -9999.0, -np.inf], [1e-5, -3.4e38, np.nan], [-np.inf] * 3, [-99.0, -99.5, -99.9]], np.float32
        ),
        censored=np.zeros(4, np.bool_),
    )
    assert np.isfinite(token_features([strange], ALL_FEATURES).values).all()
    assert np.isfinite(response_terms([strange], ALL_TERMS).values).all()


def test_probabilities_that_rounding_lifted_above_one_leave_no_tail_and_no_negative_surprise() -> None:
    certain = Completion(
        text="sure",
        tokens=("a", "b"),
        logprobs=np.zeros(2, np.float32),
        top_logprobs=np.array([[5e-7, -14.0], [-0.6931, -0.6931]], np.float32),
        censored=np.zeros(2, np.bool_),
    )
    features = token_features([certain], ["tail_mass", "rank_surprise"], width=2).values
    assert (features[:, 0] == 0).all()
    assert (features >= 0).all()


def test_asking_for_more_ranks_than_the_width_reads_the_width() -> None:
    completion = make(9, 6, 0)
    wide, narrow = (token_features([completion], ALL_FEATURES, k=k, width=4).values for k in (6, 4))
    np.testing.assert_array_equal(wide, narrow)


def test_a_logprob_that_is_nan_is_refused_and_not_scored_as_something() -> None:
    nan_completion = replace(make(3, 2, 0), logprobs=np.array([-1, np.nan, -1], np.float32))
    with pytest.raises(ValueError, match="NaN"):
        token_features([nan_completion])


def test_no_completions_give_no_rows() -> None:
    assert token_features([]).values.shape == (0, len(token_features([]).names))
    assert response_terms([]).values.shape == (0, len(response_terms([]).names))


def test_an_unknown_feature_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"gap_to_moon.*Known: logprob"):
        token_features([], ["logprob", "gap_to_moon"])


def test_identities_are_asked_for_by_name_only() -> None:
    assert not {"token_hash", "alternatives_hash"} & set(DEFAULT_FEATURES)
    assert len(token_features([]).names) == len(DEFAULT_FEATURES) - 1 + WIDTH


def test_features_are_the_same_in_every_process_and_under_every_hash_seed() -> None:
    program = (
        "import numpy as np, hashlib, sys; sys.path.insert(0, sys.argv[1])\n"
        "from swift_client.features import *; from swift_client.types import Completion\n"
        "t = np.log(np.arange(9, 0, -1, dtype=np.float32) / 50).reshape(1, 9).repeat(40, 0)\n"
        "c = Completion(text='', tokens=tuple(f'é{i}' for i in range(40)), logprobs=t[:, 1],"
        " top_logprobs=t, censored=np.zeros(40, bool))\n"
        "print(hashlib.sha256(token_features([c], list(FEATURES)).values.tobytes()).hexdigest())"
    )
    root = __file__.rsplit("tests", 1)[0]
    prints = {
        subprocess.run(
            [sys.executable, "-c", program, root],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "random")
    }
    assert len(prints) == 1


@given(st.lists(st.integers(1, 4), max_size=12), st.integers(1, 5))
def test_blocks_hold_the_rows_of_each_segment_once(lengths: list[int], max_segments: int) -> None:
    offsets = segment_offsets(lengths)
    expected = [list(range(start, end)) for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]

    blocks = list(segment_blocks(offsets[:-1], np.diff(offsets), max_segments=max_segments))

    assert all(1 <= len(rows) <= max_segments for rows in blocks)
    assert sorted(row for rows in blocks for row in rows.tolist()) == expected

"""Tests of samples as Arrow columns: nothing is lost against the samples file, and hostile columns are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from swift_client.errors import ConfigurationError
from swift_client.store import Meta, Sample, SampleStore, StoredQuestion
from swift_client.store.packing import pack, unpack
from swift_client.types import Completion, ToolCall, Usage
from tests.generated import completion

pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
pq = pytest.importorskip("pyarrow.parquet")

from swift_client.dataset.export_parquet import export_parquet  # noqa: E402
from swift_client.dataset.sample_columns import (  # noqa: E402
    decode_samples,
    encode_samples,
    group_samples,
    sample_schema,
)

ARRAYS = ("logprobs", "top_logprobs", "censored", "top_ids", "hidden_states", "projections")
TEXT = st.text(st.characters(), max_size=6)  # half surrogate pairs and nulls included


def assert_same_bits(left: Completion | None, right: Completion | None) -> None:
    """Assert that all fields are equal, but for columns of -inf at the end of the lists of ``right``."""
    if left is None or right is None:
        assert left is right
        return
    for name in ("text", "index", "finish_reason", "tokens", "tool_calls", "answer_text"):
        assert getattr(left, name) == getattr(right, name), name
    for name in ARRAYS:
        mine, other = getattr(left, name), getattr(right, name)
        if mine is None or other is None:
            assert mine is other, name
            continue
        assert mine.dtype == other.dtype, name
        if name.startswith("top_"):
            assert (other[:, mine.shape[1] :] == (0 if name == "top_ids" else -np.inf)).all()
            other = other[:, : mine.shape[1]]
        assert len(mine) == len(other), name
        # Of arrays without rows the width may differ.
        assert mine.tobytes() == other.tobytes(), name
    assert_same_bits(left.thinking, right.thinking)


def assert_same_samples(left: list[Sample], right: list[Sample]) -> None:
    assert len(left) == len(right)
    for mine, other in zip(left, right, strict=True):
        for name in ("question_id", "index", "seed", "label", "cost", "mean_logprob"):
            assert getattr(mine, name) == getattr(other, name), name
        assert dict(mine.verifier_scores) == dict(other.verifier_scores)
        assert_same_bits(mine.completion, other.completion)


@st.composite
def completions(draw: Callable[..., Any], with_thinking: bool = True) -> Completion:
    n_tokens, k = draw(st.integers(0, 4)), draw(st.integers(0, 5))
    # Close to each other, so that alternatives round to the chosen logprob; and extremes.
    logprob = st.one_of(
        st.floats(-1 - 2**-11, -1 + 2**-11, width=32), st.floats(-(2.0**126), 0, width=32), st.just(0.0)
    )
    top = draw(arrays(np.float32, (n_tokens, k), elements=st.one_of(logprob, st.just(-np.inf))))
    optional = {
        "top_ids": arrays(np.uint32, (n_tokens, k)),
        "projections": arrays(np.float32, (n_tokens, 2), elements=st.floats(-9, 9, width=32)),
        "hidden_states": arrays(np.float16, (n_tokens, draw(st.integers(0, 3))), elements=st.floats(-9, 9, width=16)),
    }
    return Completion(
        text=draw(TEXT),
        finish_reason=draw(st.sampled_from(["stop", "length", "tool_calls", "unknown"])),
        tokens=tuple(draw(st.lists(TEXT, min_size=n_tokens, max_size=n_tokens))),
        logprobs=draw(arrays(np.float32, n_tokens, elements=logprob)),
        top_logprobs=-np.sort(-top, axis=1),
        censored=draw(arrays(np.bool_, n_tokens)),
        thinking=draw(st.none() | completions(with_thinking=False)) if with_thinking else None,
        tool_calls=tuple(draw(st.lists(st.builds(ToolCall, name=TEXT, arguments=TEXT), max_size=2)))
        if with_thinking
        else (),
        answer_text=draw(st.none() | TEXT) if with_thinking else None,
        **{name: draw(st.none() | values) for name, values in optional.items()},
    )


QUESTION_FACTS = st.fixed_dictionaries(
    {
        "messages": st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": TEXT}), max_size=2).map(tuple),
        "answer": st.none() | st.text(max_size=3) | st.just(("4", "four")),
        "family": st.none() | st.sampled_from(["", "sums"]),
    }
)


@given(data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_columns_return_the_bits_of_the_samples_file(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.mktemp("columns")
    replies_by_question = st.tuples(QUESTION_FACTS, st.lists(completions(), min_size=1, max_size=3))
    questions = data.draw(st.lists(replies_by_question, min_size=1, max_size=3))
    cost, mean = data.draw(st.sampled_from([None, 0.25])), data.draw(st.sampled_from([None, -0.5]))
    seed, judged = data.draw(st.sampled_from([None, -(2**63) + 1, 7])), data.draw(st.booleans())
    with SampleStore(folder / "s.db", write=True) as store:
        store.postpone_sync()
        store.begin(Meta(provider="openai", model="m", top_logprobs=2))
        for number, (facts, replies) in enumerate(questions):
            question = StoredQuestion(id=f"q{number}", **facts)
            store.add_questions([question])
            store.add_samples(
                question.id, replies, usage=Usage(calls=1), cost=cost, seed=seed, mean_logprobs=[mean] * len(replies)
            )
            store.set_labels({(question.id, 0): 1})
            if judged:
                store.add_verifier_scores(question.id, {0: 0.25}, verifier="v")
                store.add_verifier_scores(question.id, {0: 0.5}, verifier="w")
    export_parquet(folder / "s.db", folder / "s.parquet")
    table = pq.read_table(folder / "s.parquet")
    assert table.schema.equals(sample_schema(table.schema.field("top_logprobs").type.value_type.list_size))
    with SampleStore(folder / "s.db") as store:
        expected = list(store.questions_with_samples())
    stored = [(question, sample) for question, samples in expected for sample in samples]
    for read in (table, encode_samples(stored, provider="openai", model="m", k=7), encode_samples(stored, **SOURCE)):
        actual = list(group_samples(read))
        assert [question for question, _ in actual] == [question for question, _ in expected]
        for (_, left), (_, right) in zip(expected, actual, strict=True):
            assert_same_samples(left, right)


SOURCE = {"provider": "openai", "model": "m"}


def make_rows(
    n: int = 4, *, tokens: int = 12, k: int = 3, thinking: bool = False
) -> list[tuple[StoredQuestion, Sample]]:
    rows = []
    for number in range(n):
        question = StoredQuestion(id=f"q{number // 2}", messages=({"role": "user", "content": "2 + 2?"},), answer="4")
        drawn = completion(number, tokens=tokens, k=k, index=number % 2)
        if thinking:
            drawn = replace(drawn, thinking=completion(number + 99, tokens=5, k=k))
        rows.append((question, Sample(question_id=question.id, index=number % 2, completion=drawn, label=1.0)))
    return rows


def rounded(rows: list[tuple[StoredQuestion, Sample]]) -> list[Sample]:
    """Return the samples as a samples file holds them."""
    return [
        replace(sample, completion=unpack(pack(c), text=c.text, index=c.index, finish_reason=c.finish_reason))
        for _, sample in rows
        for c in [sample.completion]
    ]


@pytest.mark.parametrize("thinking", [False, True])
def test_slices_chunks_and_dictionaries_read_as_the_whole_table(thinking: bool, tmp_path: Path) -> None:
    rows = make_rows(7, thinking=thinking)
    table = encode_samples(rows, **SOURCE)
    expected = rounded(rows)
    assert_same_samples(expected, decode_samples(table))
    assert_same_samples(expected[2:5], decode_samples(table.slice(2, 3)))
    assert_same_samples(expected[2:5], decode_samples(table.slice(2, 3).combine_chunks().to_batches()[0]))
    parts = [table.slice(start, 2) for start in (0, 2, 4, 6)]
    assert_same_samples(expected, decode_samples(pa.concat_tables(parts)))
    pq.write_table(table, tmp_path / "s.parquet")
    dictionaries = pq.ParquetFile(tmp_path / "s.parquet", read_dictionary=["text", "tokens.list.element"]).read()
    assert pa.types.is_dictionary(dictionaries.schema.field("tokens").type.value_type)
    assert_same_samples(expected, decode_samples(dictionaries))
    assert_same_samples(expected[2:5] * 2, decode_samples(pa.concat_tables([dictionaries.slice(2, 3)] * 2)))
    lists = pa.list_(pa.list_(pa.float16()))
    position = table.schema.get_field_index("top_logprobs")
    variable = table.set_column(position, "top_logprobs", table["top_logprobs"].cast(lists))
    assert_same_samples(expected, decode_samples(variable))


def test_arrays_are_views_and_equal_tokens_are_one_object() -> None:
    first, second, *_ = decode_samples(encode_samples(make_rows(), **SOURCE))
    for name in ("logprobs", "top_logprobs", "top_ids"):
        mine, other = getattr(first.completion, name), getattr(second.completion, name)
        assert not mine.flags.owndata, name
        distance = other.__array_interface__["data"][0] - mine.__array_interface__["data"][0]
        assert distance == mine.nbytes, name
    texts = {token: token for token in first.completion.tokens}
    assert all(texts.get(token, token) is token for token in second.completion.tokens)


def test_more_alternatives_than_columns_are_refused_and_never_cut() -> None:
    with pytest.raises(ConfigurationError, match="3 alternatives per token, more than 2"):
        encode_samples(make_rows(), **SOURCE, k=2)


def test_samples_without_tokens_and_empty_tables_have_columns() -> None:
    assert decode_samples(sample_schema(0).empty_table()) == []
    assert list(group_samples(sample_schema(3).empty_table())) == []
    question = StoredQuestion(id="q", messages=())
    sample = Sample(question_id="q", index=0, completion=Completion(text="4"), mean_logprob=-0.5)
    (decoded,) = decode_samples(encode_samples([(question, sample)], provider="openai", model=None))
    assert decoded.mean_logprob == -0.5
    assert decoded.completion.tokens == ()


def test_rows_of_a_question_come_in_the_order_of_their_indices() -> None:
    rows = make_rows(2)
    ((question, samples),) = group_samples(encode_samples(rows[::-1], **SOURCE))
    assert question == rows[0][0]
    assert [sample.index for sample in samples] == [0, 1]


def with_column(name: str, values: Any) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        array = values(table[name].combine_chunks()) if callable(values) else values
        return table.set_column(table.schema.get_field_index(name), name, array)

    return change


def lists_of(kind: Any, *values: Any) -> Any:
    return pa.array(values * 2, pa.list_(kind))


def empty_lists(width: int) -> Any:
    rows = pa.FixedSizeListArray.from_arrays(pa.array([], pa.float16()), width)
    return pa.ListArray.from_arrays([0, 0, 0], rows)


HOSTILE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no column": (lambda table: table.drop_columns(["logprobs"]), "the column 'logprobs' is missing"),
    "two columns": (lambda table: table.append_column("text", table["text"]), "several columns 'text'"),
    "other type": (with_column("tokens", pa.array([1, 2])), "int64 instead of lists"),
    "numbers as text": (with_column("text", pa.array([1, 2])), "int64 instead of text"),
    "tokens of numbers": (with_column("tokens", lists_of(pa.int64(), [1, 2, 3])), "int64 instead of text"),
    "lists of text": (with_column("logprobs", lists_of(pa.string(), ["x", "y", "z"])), "Failed to parse"),
    "missing token": (with_column("tokens", lists_of(pa.string(), ["x", None, "z"])), "missing values"),
    "missing number": (with_column("logprobs", lists_of(pa.float32(), [-1, None, -1])), "missing values"),
    "missing list": (with_column("logprobs", lists_of(pa.float32(), None)), "the column 'logprobs' is missing"),
    "some missing lists": (
        with_column("logprobs", pa.array([[-1.0] * 3, None], pa.list_(pa.float32()))), "has missing values",
    ),
    "too few": (with_column("logprobs", lists_of(pa.float32(), [-1.0, -1.0])), "logprobs has more or fewer values"),
    "shifted": (
        with_column("censored", pa.array([[True] * 2, [True] * 4], pa.list_(pa.bool_()))), "censored has more or fewer",
    ),
    "NaN": (with_column("logprobs", lists_of(pa.float32(), [-1.0, float("nan"), -1.0])), "logprobs are NaN"),
    "infinite": (with_column("logprobs", lists_of(pa.float32(), [-1.0, float("-inf"), -1.0])), "logprobs are NaN"),
    "above 0": (with_column("logprobs", lists_of(pa.float32(), [-1.0, 0.5, -1.0])), "logprobs are NaN"),
    "top above 0": (
        with_column("top_logprobs", lists_of(pa.list_(pa.float16(), 2), np.float16([[-1, 0.5]] * 3).tolist())),
        "top_logprobs are NaN or above 0",
    ),
    "top NaN": (
        with_column("top_logprobs", lists_of(pa.list_(pa.float16(), 1), [[float("nan")]] * 3)),
        "top_logprobs are NaN or above 0",
    ),
    "several widths": (
        with_column("top_logprobs", lists_of(pa.list_(pa.float16()), [[-1.0], [], [-1.0]])), "several lengths",
    ),
    "huge width": (
        lambda table: encode_samples(make_rows(2, tokens=0), **SOURCE).set_column(
            table.schema.get_field_index("top_logprobs"), "top_logprobs", empty_lists(2**30),
        ),
        "its lists have 1073741824 values each",
    ),
    "missing ids": (
        with_column("top_ids", lists_of(pa.list_(pa.uint32(), 1), [[1], None, [2]])), "is missing",
    ),
    "negative rank": (with_column("rank", lists_of(pa.int32(), [-1, 0, 0])), "not in range"),
    "NaN projections": (
        with_column("projections", lists_of(pa.list_(pa.float32(), 2), [[0.0, float("nan")]] * 3)), "NaN or infinite",
    ),
    "finish reason": (with_column("finish_reason", pa.array(["stop", "tired"])), "finish reason 'tired'"),
    "negative index": (with_column("index", pa.array([0, -1])), "an index is negative"),
    "same index": (with_column("index", pa.array([1, 1])), "two samples with the index 1"),
    "label": (with_column("label", pa.array([0.0, 0.5])), "a label is not 0 or 1"),
    "cost": (with_column("cost", pa.array([0.0, float("nan")])), "a cost is NaN"),
    "mean": (with_column("mean_logprob", pa.array([-1.0, 0.5])), "a mean logprob is NaN"),
    "judgement": (
        with_column("verifier_scores", pa.array([[("v", 1.5)], []], pa.map_(pa.string(), pa.float64()))),
        "a judgement is not from 0 to 1",
    ),
    "missing judgement": (
        with_column("verifier_scores", pa.array([[("v", None)], []], pa.map_(pa.string(), pa.float64()))),
        "missing values",
    ),
    "other messages": (with_column("messages", pa.array(["[]", "[{}]"])), "has several messages"),
    "not messages": (with_column("messages", pa.array(["3", "3"])), "are not a list of messages"),
    "not JSON": (with_column("messages", pa.array(["[", "["])), "Expecting value"),
    "deep JSON": (with_column("messages", pa.array(["[" * 100_000] * 2)), "recursion"),
    "no messages": (with_column("messages", pa.array([None, None], pa.string())), "the column .messages. is missing"),
    "no question": (with_column("question", pa.array([None, "q0"])), "'question' has missing values"),
    "answers": (with_column("answers", lists_of(pa.string(), [None])), "an accepted answer is missing"),
    "answers of numbers": (with_column("answers", lists_of(pa.int64(), [4])), "int64 instead of text"),
    "calls": (with_column("tool_calls", lists_of(pa.string(), ["f"])), "struct"),
    "thinking": (with_column("thinking", pa.array(["a", "b"])), "struct"),
    "thinking of a part": (
        with_column("thinking", pa.array([{"text": "hm"}] * 2)), "the column 'finish_reason' is missing",
    ),
    "dictionary": (
        with_column("text", pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None]))),
        "a dictionary of texts has missing values",
    ),
    "not UTF-8": (
        with_column("text", pa.array([b"\xff", b"\xff"]).view(pa.string())), "utf-8",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_columns_are_refused(name: str) -> None:
    change, message = HOSTILE[name]
    table = change(encode_samples(make_rows(2, tokens=3), **SOURCE))
    with pytest.raises(ConfigurationError, match=message) as caught:
        list(group_samples(table))
    assert "collect --parquet" in str(caught.value.hint)


def test_judgements_of_a_slice_are_its_own_and_those_of_other_rows_are_not_read() -> None:
    scores = [{"v": 0.25, "w": 0.5}, {}, {"w": 1.0}, {"v": 0.75}]
    rows = [
        (question, replace(sample, verifier_scores=own))
        for (question, sample), own in zip(make_rows(4), scores, strict=True)
    ]
    table = encode_samples(rows, **SOURCE)
    for start in range(4):
        decoded = decode_samples(table.slice(start, 2))
        assert [sample.verifier_scores for sample in decoded] == scores[start : start + 2]
    position = table.schema.get_field_index("verifier_scores")
    kind = table.schema.field(position).type
    invalid = pa.array([[("v", 7.0)], [], [("w", 1.0)], []], kind)
    (_, sample) = decode_samples(table.set_column(position, "verifier_scores", invalid).slice(1, 2))
    assert sample.verifier_scores == {"w": 1.0}

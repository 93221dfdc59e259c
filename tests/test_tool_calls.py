"""Tests of votes by tool call: whole calls, names, ignored arguments, and by name first."""

from __future__ import annotations

import asyncio
import json
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swift_client import Completion, Selection, parse_response, rank
from swift_client.answers import get_reader, read
from swift_client.dataset.graders import grade, grade_all
from swift_client.errors import ConfigurationError
from swift_client.selection.choose import support_by_level
from swift_client.selection.select import SelectionConfig, score_completions
from swift_client.stopping.monitor import StoppingMonitor
from swift_client.stopping.rules import stopping_rule
from swift_client.store.packing import pack, unpack
from swift_client.types import ToolCall
from tests.plain_decoder import RECORDINGS

PARIS = ("get_weather", '{"city": "Paris", "request_id": "a1"}')
PARIS_TOO = ("get_weather", '{"request_id":"b2","city":"Paris"}')
ROME = ("get_weather", '{"city": "Rome", "request_id": "c3"}')
SEARCH = ("search", '{"query": "Paris", "filter": {"id": 7, "kind": "map"}}')


def calling(*calls: tuple[str, str], text: str = "", index: int = 0, mean: float | None = None) -> Completion:
    """Make a completion that calls tools; its one token has the logprob ``mean``."""
    scored: dict[str, Any] = {}
    if mean is not None:
        scored = {"tokens": ("x",), "logprobs": np.array([mean], np.float32),
                  "top_logprobs": np.zeros((1, 0), np.float32), "censored": np.zeros(1, np.bool_)}  # fmt: skip
    made = tuple(ToolCall(name=name, arguments=arguments) for name, arguments in calls)
    return Completion(
        text=text, index=index, finish_reason="tool_calls" if calls else "stop", tool_calls=made, **scored
    )


def vote(*completions: Completion, answer: str = "tool_call") -> Selection:
    return rank([*completions], answer=answer)


def answers_of(selection: Selection) -> list[str | None]:
    return [candidate.answer for candidate in selection.candidates]


# --- replies of providers, in the shapes that their documentation shows


def chat(*calls: tuple[str, str], text: str | None = None) -> dict[str, Any]:
    functions = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": text, "tool_calls": functions}
    return {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def responses(*calls: tuple[str, str], text: str | None = None) -> dict[str, Any]:
    output: list[dict[str, Any]] = [
        {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": name,
         "arguments": arguments, "status": "completed"}
        for number, (name, arguments) in enumerate(calls)
    ]  # fmt: skip
    if text is not None:
        part = {"type": "output_text", "text": text, "annotations": []}
        output.insert(0, {"type": "message", "role": "assistant", "status": "completed", "content": [part]})
    return {"object": "response", "status": "completed", "output": output}


def gemini(*calls: tuple[str, str], text: str | None = None) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {"functionCall": {"name": name, "args": json.loads(arguments)}} for name, arguments in calls
    ]
    parts[:0] = [] if text is None else [{"text": text}]
    return {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}]}


def anthropic(*calls: tuple[str, str], text: str | None = None) -> dict[str, Any]:
    content: list[dict[str, Any]] = [
        {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": json.loads(arguments)}
        for number, (name, arguments) in enumerate(calls)
    ]
    content[:0] = [] if text is None else [{"type": "text", "text": text}]
    return {"type": "message", "role": "assistant", "content": content, "stop_reason": "tool_use"}


FORMATS = [chat, responses, gemini, anthropic]


@pytest.mark.parametrize("reply", FORMATS)
@pytest.mark.parametrize("text", [None, "I look that up."])
def test_equal_calls_vote_together_whatever_the_spelling_and_the_text_beside_them(reply: Any, text: str | None) -> None:
    replies = [reply(ROME), reply(PARIS, text=text), reply(PARIS_TOO), reply(SEARCH, text=text)]

    selection = rank([json.dumps(body).encode() for body in replies], answer="tool_call:ignore=request_id")

    assert answers_of(selection)[1] == answers_of(selection)[2] == 'get_weather({"city":"Paris"})'
    assert selection.answer == 'get_weather({"city":"Paris"})'
    assert selection.method == "vote"
    assert [candidate.completion.tool_calls[0].name for candidate in selection.candidates] == [
        "get_weather", "get_weather", "get_weather", "search",
    ]  # fmt: skip


@pytest.mark.parametrize("reply", FORMATS)
def test_auto_votes_on_calls_if_all_complete_completions_call(reply: Any) -> None:
    replies = [reply(SEARCH, text="One moment."), reply(("f", "{}"), text="I see."), reply(SEARCH)]
    assert rank(replies).answer == 'search({"filter":{"id":7,"kind":"map"},"query":"Paris"})'
    assert parse_response(replies[0])[0].text == "One moment."

    cut = Completion(text="[{", index=3, finish_reason="length")
    assert rank([*parse_response(replies), cut]).answer == rank(replies).answer


def test_auto_compares_texts_if_only_some_call_and_says_how_to_compare_calls() -> None:
    selection = rank([calling(PARIS), Completion(text="The answer is 4.", index=1)])

    assert selection.answer == "4"
    assert any('answer="tool_call"' in note for note in selection.notes)


def test_a_text_among_calls_is_the_answer_no_call() -> None:
    texts = [Completion(text=text, index=index) for index, text in enumerate(("It is sunny.", "Which city?"))]
    selection = vote(*texts, calling(PARIS, index=2))

    assert answers_of(selection)[:2] == ["no call", "no call"]
    assert selection.answer == "no call"
    assert answers_of(vote(calling(("no call", "{}")), answer="tool_name")) == ['"no call"']


def test_completions_of_older_samples_files_have_their_calls_as_text() -> None:
    old = Completion(text='[{"arguments":{"city":"Paris"},"name":"get_weather"}]', finish_reason="tool_calls")
    assert vote(old).answer == rank([old]).answer == 'get_weather({"city":"Paris"})'


def test_samples_files_keep_calls_beside_a_text() -> None:
    made = calling(PARIS, ("f", "\ud83d"), text="I look it up.")
    kept = unpack(pack(made), text=made.text, index=0, finish_reason=made.finish_reason)
    assert kept.tool_calls == (made.tool_calls[0], ToolCall(name="f", arguments="?"))


# --- equality of calls


@pytest.mark.parametrize(
    ("first", "second", "spec", "equal"),
    [
        ('{"a": 1, "b": [1, 2]}', '{"b":[1.0,2],"a":1e0}', "tool_call", True),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', "tool_call", False),
        ('{"a": 1}', '{"a": "1"}', "tool_call", False),
        ('{"a": 1}', '{"a": true}', "tool_call", False),
        ('{"id": 123456789012345678901}', '{"id": 123456789012345678902}', "tool_call", False),
        ("", "{}", "tool_call", True),
        ("null", " {} ", "tool_call", True),
        ('{"a": 2, "a": 1}', '{"a": 1}', "tool_call", True),
        (json.dumps('{"a": 1}'), '{"a": 1}', "tool_call", True),
        ("ls -l", "ls -l", "tool_call", True),
        ("ls -l", "ls -la", "tool_call", False),
        ("1", "1.0", "tool_call", False),  # text of a tool that takes plain text
        ('{"filter": {"id": 1, "x": 2}}', '{"filter": {"id": 9, "x": 2}}', "tool_call:ignore=filter.id", True),
        ('{"filter": {"id": 1, "x": 2}}', '{"filter": {"id": 9, "x": 3}}', "tool_call:ignore=filter.id", False),
        ('{"items": [{"id": 1}, {"id": 2}]}', '{"items": [{"id": 3}, {}]}', "tool_call:ignore=items.id", True),
        ('{"filter.id": 1}', '{"filter.id": 2}', "tool_call:ignore=filter.id", True),
        ('{"a": 1, "t": 5}', '{"a": 1, "r": 6}', "tool_call:ignore=t,r", True),
        ('{"id": 1, "x": {"id": 1}}', '{"id": 2, "x": {"id": 2}}', "tool_call:ignore=id", False),
    ],
)
def test_arguments_are_compared_as_values(first: str, second: str, spec: str, equal: bool) -> None:
    left, right = answers_of(vote(calling(("f", first)), calling(("f", second), index=1), answer=spec))
    assert left is not None
    assert (left == right) is equal


def test_parallel_calls_are_compared_without_their_order_but_with_their_number() -> None:
    made = [
        calling(PARIS, ROME),
        calling(ROME, PARIS, index=1),
        calling(PARIS, index=2),
        calling(PARIS, PARIS, index=3),
    ]

    first, second, *rest = answers_of(vote(*made))
    assert first == second
    assert len({first, *rest}) == 3
    assert answers_of(vote(*made, answer="tool_name"))[2:] == ["get_weather", '["get_weather", "get_weather"]']


def test_names_cannot_pass_for_other_answers() -> None:
    made = [
        calling(("a({}), b", "{}")),
        calling(("a", "{}"), ("b", "{}"), index=1),
        calling(('["a", "b"]', ""), index=2),
    ]
    for spec in ("tool_call", "tool_name"):
        assert len(set(answers_of(vote(*made, answer=spec)))) == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "id", "é", "."]), JSON, max_size=4)


def exact(value: Any) -> Any:
    """Return JSON with numbers as fractions and types beside values, so that == is equality of JSON values."""
    if isinstance(value, dict):
        return {key: exact(member) for key, member in value.items()}
    if isinstance(value, list):
        return [exact(member) for member in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Fraction(str(value))
    return type(value).__name__, value


@given(OBJECTS, OBJECTS, st.sampled_from([None, 1, "\t"]))
def test_two_calls_are_equal_exactly_if_their_json_values_are(left: Any, right: Any, indent: Any) -> None:
    mixed = dict(reversed(left.items()))
    texts = json.dumps(left), json.dumps(mixed, indent=indent, ensure_ascii=False), json.dumps(right)
    made = [calling(("f", text), index=index) for index, text in enumerate(texts)]

    first, again, other = answers_of(vote(*made))

    assert first == again
    assert (first == other) is (exact(left) == exact(right))
    ignoring = answers_of(vote(*made, answer="tool_call:ignore=id"))
    rest_left, rest_right = ({key: value for key, value in side.items() if key != "id"} for side in (left, right))
    assert (ignoring[0] == ignoring[2]) is (exact(rest_left) == exact(rest_right))


# --- hostile calls


@pytest.mark.parametrize(
    "arguments",
    ['{"city": "Par', "{broken", '{"a": NaN}', "{" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000,
     '{"a": 1e9999999999999999999}', json.dumps('{"city": "Par')],
)  # fmt: skip
def test_a_call_with_broken_arguments_has_no_answer_and_costs_no_other(arguments: str) -> None:
    selection = vote(calling(("f", arguments)), calling(PARIS, index=1))

    assert answers_of(selection)[0] is None
    assert selection.winner == 1
    assert any("'tool_call' found no answer in 1 of 2 texts" in note for note in selection.notes)
    assert answers_of(vote(calling(("f", arguments)), answer="tool_name")) == ["f"]


def test_huge_arguments_and_many_calls_are_compared() -> None:
    huge = json.dumps({"text": "x" * 2_000_000, "rows": list(range(20_000))})
    selection = vote(calling(("f", huge)), calling(("f", huge + " "), index=1), calling(*[PARIS] * 5_000, index=2))
    assert selection.candidates[0].group == selection.candidates[1].group != selection.candidates[2].group


@given(
    st.text() | st.sampled_from(["[]", "[1]", '[{"name": 1, "arguments": []}]', '{"name": null, "arguments": null}'])
)
def test_any_text_has_an_answer_or_none(text: str) -> None:
    for spec in ("tool_call", "tool_name", "tool_call:ignore=a:by=hierarchy"):
        value = read([text], spec).values[0]
        assert (value is None) is (not text.strip())
        reader = get_reader(spec)
        assert reader is not None
        assert value is None or reader.normalize(value) == value.strip()


@given(st.lists(st.fixed_dictionaries({}, optional={
    "id": JSON, "type": JSON, "function": JSON | st.fixed_dictionaries({"name": JSON, "arguments": JSON}),
    "custom": st.fixed_dictionaries({"name": JSON, "input": JSON}),
}) | JSON, max_size=3))  # fmt: skip
def test_calls_of_any_shape_cost_no_reply(calls: list[Any]) -> None:
    body = chat(PARIS)
    body["choices"].append(
        {"index": 1, "message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}
    )
    selection = rank(body, answer="tool_call")
    assert len(selection.candidates) == 2
    assert selection.candidates[0].answer is not None


def test_custom_tools_take_plain_text() -> None:
    custom = {"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls -l"}}
    body = chat()
    body["choices"][0]["message"]["tool_calls"] = [custom]
    assert rank(body, answer="tool_call").answer == 'shell("ls -l")'


# --- by name first


def test_the_name_is_voted_on_first_and_then_the_arguments_of_that_tool() -> None:
    kept = [calling(("weather", f'{{"city": "{city}"}}'), index=i) for i, city in enumerate("ABAC")]
    searches = [calling(("search", '{"q": 1}'), index=index) for index in (4, 5, 6)]

    assert vote(*kept, *searches).answer == 'search({"q":1})'
    assert vote(*kept, *searches, answer="tool_call:by=hierarchy").answer == 'weather({"city":"A"})'


CHOICES = st.sampled_from([("f", "{}"), ("f", '{"a":1}'), ("f", '{"a":2}'), ("g", "{}"), ("g", '{"a":1}'), None])
WEIGHTED = st.lists(st.tuples(CHOICES, st.floats(-3, 0)), min_size=1, max_size=8)


@given(WEIGHTED)
def test_the_winner_by_hierarchy_is_that_of_a_plain_loop(made: list[tuple[tuple[str, str] | None, float]]) -> None:
    completions = [
        Completion(text="None of them.", index=index, tokens=("x",), logprobs=np.array([mean], np.float32),
                   top_logprobs=np.zeros((1, 0), np.float32), censored=np.zeros(1, np.bool_))
        if call is None else calling(call, index=index, mean=mean)
        for index, (call, mean) in enumerate(made)
    ]  # fmt: skip
    selection = vote(*completions, answer="tool_call:by=hierarchy")

    weights = [Fraction(candidate.weight) for candidate in selection.candidates]
    names = [call and call[0] for call, _ in made]

    def total(keys: list[Any], key: Any) -> float:
        return float(sum(weight for weight, other in zip(weights, keys, strict=True) if other == key))

    best_name = max(total(names, name) for name in names)
    calls = [call for call, _ in made]
    support = {i: total(calls, calls[i]) for i in range(len(made)) if total(names, names[i]) == best_name}
    assert support[selection.winner] == max(support.values())


def test_support_by_level_ranks_sums_in_any_order() -> None:
    names, calls, weights = (0, 0, 1, 1, None), (0, 1, 2, 2, None), (0.1, 0.7, 0.5, 0.3, 0.0)
    for order in permutations(range(5)):
        ranks = support_by_level([[level[i] for i in order] for level in (names, calls)], [weights[i] for i in order])
        assert [ranks[order.index(i)] for i in range(5)] == [1.0, 2.0, 3.0, 3.0, 0.0]


def test_a_stopping_rule_waits_until_name_and_call_are_decided() -> None:
    rule = stopping_rule("cannot_change")
    config = SelectionConfig(answer="tool_call:by=hierarchy")

    async def stops(*completions: Completion, n: int, answer: str = "tool_call:by=hierarchy") -> bool:
        async def score(some: Any) -> Any:
            return score_completions(some, SelectionConfig(answer=answer))

        return await StoppingMonitor(rule, n, score, method="auto", scorer=config.scorer).should_stop(completions)

    searches = [calling(("search", "{}"), index=index) for index in range(3)]
    weathers = [calling(("weather", f'{{"city": {index}}}'), index=index) for index in range(3, 6)]
    # Three equal calls cannot be overtaken by another call in 8, but their tool can.
    assert asyncio.run(stops(*searches, *weathers, n=7, answer="tool_call"))
    assert not asyncio.run(stops(*searches, *weathers, n=7))
    assert asyncio.run(stops(*searches, *searches, n=7))
    # All call one tool, whose arguments are open.
    assert not asyncio.run(stops(*weathers, n=8))


# --- specs


@pytest.mark.parametrize(
    "spec",
    ["tool_call:", "tool_call:ignore=", "tool_call:ignore=a,,b", "tool_call:ignore=a..b", "tool_call:by=name",
     "tool_name:by=hierarchy", "tool_call:ignored=a", "tool_call:ignore=a:ignore=b", "tool_calls:ignore=a",
     "tool_calls", "tool_call:ignore"],
)  # fmt: skip
def test_a_spec_with_a_mistake_is_refused_and_not_taken_for_a_regex(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="tool_call"):
        rank([calling(PARIS)], answer=spec)


# --- grading


def test_completions_are_graded_by_their_calls() -> None:
    right, wrong = calling(PARIS, text="I look it up."), calling(ROME, index=1)
    reference = {"name": "get_weather", "arguments": {"city": "Paris"}}

    for spec in ("tool_call:ignore=request_id", "tool_name"):
        expected = [1.0, 0.0] if spec != "tool_name" else [1.0, 1.0]
        assert grade_all([right, wrong], json.dumps(reference), spec).labels.tolist() == expected
    assert grade('[{"name": "f", "arguments": {"a": 1.0}}]', '{"name": "f", "arguments": {"a": 1}}', "tool_call")
    assert grade_all([right], "get_weather", "tool_name").labels.tolist() == [1.0]
    assert grade_all([right], "no call", "tool_call").labels.tolist() == [0.0]


@pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings are not part of the project")
def test_a_recorded_stream_with_words_before_its_call_votes_by_its_call() -> None:
    recording = (RECORDINGS / "openai-stream" / "logprobs-then-tool-calls.sse").read_text()
    data = "\n".join(line for line in recording.replace("`", "\n").splitlines() if line.startswith("data:"))
    recorded = parse_response(data.encode())[0]

    assert recorded.tool_calls
    assert recorded.text
    assert rank([recorded]).answer.startswith(recorded.tool_calls[0].name + "(")

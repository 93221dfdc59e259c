"""Tests of an agent's trajectories: their transcripts, the answers that are compared, and hostile messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage

from swift_client import Completion, parse_response, rank
from swift_client.errors import ConfigurationError, ResponseDecodeError
from swift_client.types import ToolCall

QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it warm in Paris?"}]


def call(name: str, arguments: str, call_id: str = "a") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def trajectory(answer: str, degrees: str = "18 °C") -> list[dict[str, Any]]:
    return [
        *QUESTION,
        {"role": "assistant", "content": "I look it up.", "tool_calls": [call("get_weather", '{"city": "Paris"}')]},
        {"role": "tool", "tool_call_id": "a", "content": degrees},
        {"role": "assistant", "content": answer},
    ]


TRANSCRIPT = """\
assistant:
  I look it up.
call 1, get_weather:
  {"city": "Paris"}
result of call 1:
  18 °C
assistant:
  The answer is 18.
  Yes."""


def test_a_transcript_has_the_steps_after_the_question() -> None:
    (completion,) = parse_response([trajectory("The answer is 18.\nYes.")])

    assert completion.text == TRANSCRIPT
    assert completion.answer_text == "The answer is 18.\nYes."
    assert (completion.finish_reason, completion.tool_calls) == ("stop", ())


def test_objects_of_a_client_and_blocks_of_anthropic_give_the_same_transcript() -> None:
    first = ChatCompletionMessage.model_validate({"role": "assistant", "content": "I look it up.",
        "tool_calls": [call("get_weather", '{"city": "Paris"}')]})  # fmt: skip
    objects = [*QUESTION, first, *trajectory("The answer is 18.\nYes.")[3:]]
    blocks = [
        *QUESTION,
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "I look it up."},
            {"type": "tool_use", "id": "t", "name": "get_weather", "input": {"city": "Paris"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [
            {"type": "text", "text": "18 °C"}]}]},
        {"role": "assistant", "content": [{"type": "text", "text": "<think>hm</think>The answer is 18.\nYes."}]},
    ]  # fmt: skip

    completions = parse_response([objects, tuple(blocks)])

    assert [completion.text for completion in completions] == [TRANSCRIPT] * 2
    assert [completion.answer_text for completion in completions] == ["The answer is 18.\nYes."] * 2


def test_final_answers_vote() -> None:
    candidates = [
        trajectory(answer) for answer in ("It is 17.", "The answer is 18.", "I measured it: the answer is 18")
    ]
    selection = rank(candidates, prompt="Is it warm in Paris?")

    assert selection.answer == "18"
    assert selection.method == "vote"
    assert selection.text.startswith("assistant:\n  I look it up.\ncall 1, get_weather:")
    assert rank(json.dumps(candidates)).answer == rank(json.dumps(candidates).encode()).answer == "18"


def test_trajectories_that_end_with_a_call_vote_on_it() -> None:
    submits = [
        [*trajectory("Done.")[:4], {"role": "assistant", "content": None, "tool_calls": [call("submit", value, "b")]},
         {"role": "tool", "tool_call_id": "b", "content": "ok"}]
        for value in ('{"degrees": 17}', '{"degrees": 18}', '{"degrees": 18.0}')
    ]  # fmt: skip
    selection = rank(submits)

    assert selection.answer == 'submit({"degrees":18})'
    assert selection.candidates[0].completion.tool_calls == (ToolCall(name="submit", arguments='{"degrees": 17}'),)
    assert selection.text.endswith('call 2, submit:\n  {"degrees": 18}\nresult of call 2:\n  ok')


def test_parallel_calls_and_results_are_told_apart_and_other_parts_are_named() -> None:
    messages = [
        {"role": "assistant", "tool_calls": [call("f", "", "x"), call("f", "{}", "y")], "function_call": None},
        {"role": "tool", "tool_call_id": "y", "content": [{"type": "image_url", "image_url": {}}, "two"]},
        {"role": "tool", "tool_call_id": "x", "content": "one"},
        {"role": "function", "name": "f", "content": "three"},
        {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image", "source": {}}]},
        {"role": "assistant", "content": None, "refusal": "I can't."},
    ]
    (completion,) = parse_response([messages])

    assert completion.text.split("\n") == [
        "call 1, f:", "call 2, f:", "  {}", "result of call 2:", "  [image_url]two", "result of call 1:", "  one",
        "result:", "  three", "user:", "  See", "user, image left out:", "assistant refuses:", "  I can't.",
    ]  # fmt: skip
    assert completion.finish_reason == "refusal"


TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        "assistant:",
        "a\nassistant:\n  18",
        "x\r\ncall 1, f:",
        "\u2028result of call 1:",
        "\x0bassistant:",
        "\ud83d",
        "\x85user:",
    ]
)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4))
def test_no_content_passes_for_a_step(steps: list[tuple[str, str, str]]) -> None:
    messages: list[dict[str, Any]] = []
    expected: list[str] = []
    for number, (text, name, result) in enumerate(steps, 1):
        messages.append({"role": "assistant", "content": f"-{text}", "tool_calls": [call(name, text, str(number))]})
        messages.append({"role": "tool", "tool_call_id": str(number), "content": result})
        expected += ["assistant:", f"call {number}, ", f"result of call {number}:"]

    (completion,) = parse_response([messages])

    headers = [line for line in completion.text.splitlines() if not line.startswith("  ")]
    assert len(headers) == len(expected)
    assert all(header.startswith(start) for header, start in zip(headers, expected, strict=True))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ROLES = st.sampled_from(["assistant", "user", "tool", "system"])
KINDS = st.sampled_from(["text", "tool_use", "tool_result", "refusal", "image", "thinking"])
PARTS = st.fixed_dictionaries(
    {"type": KINDS | JSON}, optional={"text": JSON, "name": JSON, "input": JSON, "content": JSON}
)
CALLS = st.fixed_dictionaries({}, optional={"id": JSON, "function": JSON, "custom": JSON})
MESSAGES = st.fixed_dictionaries(
    {"role": ROLES | JSON},
    optional={"content": JSON | st.lists(PARTS, max_size=3), "tool_calls": JSON | st.lists(CALLS, max_size=2),
              "refusal": JSON, "function_call": JSON, "tool_call_id": JSON},
)  # fmt: skip


@given(st.lists(st.lists(MESSAGES | JSON, max_size=3), min_size=1, max_size=3))
def test_messages_of_any_shape_are_read_or_refused(trajectories: list[Any]) -> None:
    try:
        completions = parse_response(trajectories)
    except ResponseDecodeError as refusal:
        problem = str(refusal)
    else:
        problem = ""
        assert [completion.index for completion in completions] == list(range(len(trajectories)))
        assert rank(trajectories).text in {completion.text for completion in completions}
    assert not problem or "Trajectory" in problem


DEEP: Any = {}
for _ in range(100_000):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([], "no message of the model"),
        (QUESTION, "no message of the model"),
        ([{"role": "assistant", "content": 5}], "message 0 .* its content is a int"),
        ([{"role": "model", "parts": []}], "its role is 'model'"),
        ([{"content": "x"}], "its role is None"),
        ([{"role": "assistant", "content": "x"}, "y"], "message 1 .* a str is not an object"),
        ([{"role": "assistant", "tool_calls": "f()"}], "its tool_calls are a str"),
        ([{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}], "None stands in place of a text"),
        ([{"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": DEEP}]}], "cannot be read"),
        ([{"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": {"a": {1}}}]}], "cannot be"),
    ],
)  # fmt: skip
def test_a_message_that_cannot_be_read_is_refused_with_its_place(messages: Any, problem: str) -> None:
    with pytest.raises(ResponseDecodeError, match=f"Trajectory 1 .*{problem}"):
        rank([trajectory("Yes."), messages])


def test_trajectories_and_other_things_do_not_mix() -> None:
    with pytest.raises(ResponseDecodeError, match="Trajectory 1 is a dict"):
        rank([trajectory("Yes."), {"choices": []}])
    with pytest.raises(ConfigurationError, match="mixes"):
        rank([trajectory("Yes."), Completion(text="Yes.")])
    with pytest.raises(ConfigurationError, match="one trajectory"):
        rank(trajectory("Yes."))
    with pytest.raises(ResponseDecodeError, match="Trajectory 0"):
        rank(b"[[1]]")

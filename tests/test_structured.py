"""Tests of structured answers: validation against a model, the choice, and the confidence of each field."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator

from swift_client import AsyncSwiftReranker, Completion, SwiftReranker, rank
from swift_client.errors import BadRequestError, ConfigurationError, MissingExtraError, NoCompletionError
from swift_client.structured.request_fields import is_strict, schema_fields, to_strict_schema
from swift_client.structured.schema import MAX_TEXT_LENGTH, create_response_schema
from swift_client.types import ToolCall
from tests.children import command
from tests.servers import FaultServer, after, chat, chat_stream, error

GOOD = '{"vendor":"Acme","total":12.5}'


class Invoice(BaseModel):
    vendor: str
    total: Decimal


SCHEMA = {
    "type": "object",
    "properties": {"vendor": {"type": "string"}, "total": {"type": "number"}},
    "required": ["vendor", "total"],
}


def spelled(
    tokens: Sequence[str], *, text: str | None = None, index: int = 0, logprob: float = -1.0, **more: Any
) -> Completion:
    count = len(tokens)
    values = np.full(count, logprob, np.float32)
    numbers = {"logprobs": values, "top_logprobs": values[:, None], "censored": np.zeros(count, np.bool_), **more}
    return Completion(text="".join(tokens) if text is None else text, index=index, tokens=tuple(tokens), **numbers)


def completions_of(*texts: str) -> list[Completion]:
    return [Completion(text=text, index=index) for index, text in enumerate(texts)]


def invoice(vendor: str, total: float) -> str:
    return json.dumps({"vendor": vendor, "total": total})


@pytest.mark.parametrize("model", [Invoice, SCHEMA])
def test_what_does_not_fit_neither_wins_nor_votes_and_is_counted_with_its_first_reason(model: Any) -> None:
    worse = spelled(list(GOOD), index=2, logprob=-3.0)
    better = [
        spelled(list(text), index=index, logprob=-0.1) for index, text in enumerate(["no JSON", '{"vendor":"Acme"}'])
    ]

    selection = rank([*better, worse], response_model=model)

    assert selection.winner == 2
    assert [candidate.weight > 0 for candidate in selection.candidates] == [False, False, True]
    assert any("2 of 3 completions do not fit" in note and "there is none" in note for note in selection.notes)


def test_parsed_is_the_model_for_a_class_and_plain_values_for_a_schema() -> None:
    assert rank(completions_of(GOOD), response_model=Invoice).parsed == Invoice(vendor="Acme", total=Decimal("12.5"))
    assert rank(completions_of(GOOD), response_model=SCHEMA).parsed == {"vendor": "Acme", "total": 12.5}
    assert rank(completions_of(GOOD)).parsed is None


def test_equal_objects_vote_together_however_they_are_written() -> None:
    fenced = 'Here it is:\n```json\n{"total": 12.50,\n "vendor": "Acme"}\n```\nDone.'
    selection = rank([*completions_of(invoice("Best", 1)), *completions_of(GOOD, fenced)], response_model=Invoice)

    assert [candidate.group for candidate in selection.candidates] == [0, 1, 1]
    assert selection.parsed.vendor == "Acme"
    assert selection.fields["total"].agreement == pytest.approx(2 / 3)


def test_where_no_two_agree_the_object_with_the_most_agreed_fields_wins_and_it_is_a_real_one() -> None:
    texts = [invoice("A", 1), invoice("A", 2), invoice("B", 2), invoice("C", 9)]
    selection = rank(completions_of(*texts), response_model=Invoice)

    # By hand: A1 (2 + 1) / 2, A2 (2 + 2) / 2, B2 (1 + 2) / 2, C9 (1 + 1) / 2.
    assert selection.winner == 1
    assert selection.text in texts
    assert {name: field.agreement for name, field in selection.fields.items()} == {"vendor": 0.5, "total": 0.5}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=7, unique=True))
def test_field_agreement_is_that_of_a_plain_loop(rows: list[tuple[int, int, int]]) -> None:
    objects = [dict(zip("abc", row, strict=True)) for row in rows]
    selection = rank(completions_of(*map(json.dumps, objects)), response_model={"type": "object"})

    plain = [
        sum(other[name] == chosen_object[name] for name in "abc" for other in objects) for chosen_object in objects
    ]
    assert selection.winner == plain.index(max(plain))
    for name, field in selection.fields.items():
        assert field.agreement == pytest.approx(
            sum(other[name] == selection.parsed[name] for other in objects) / len(objects)
        )


def test_a_fields_logprob_is_the_sum_over_the_tokens_that_spell_its_value() -> None:
    tokens = ['{"', "vendor", '":', ' "', "Ac", "me", '",', ' "', "total", '":', " 1", "2.5", "}"]
    numbers = -np.arange(1, len(tokens) + 1, dtype=np.float32)
    selection = rank([spelled(tokens, logprobs=numbers)], response_model=Invoice)

    assert selection.fields["vendor"].logprob == pytest.approx(-(4 + 5 + 6 + 7))
    assert selection.fields["total"].logprob == pytest.approx(-(11 + 12))


def test_broken_characters_and_fences_do_not_move_a_fields_tokens() -> None:
    tokens = ["```json\n", '{"vendor":"', "\ufffd", "\ufffd", '","total":', "7", "}", "\n```"]
    text = '```json\n{"vendor":"é","total":7}\n```'
    selection = rank([spelled(tokens, text=text, logprob=-0.5)], response_model=Invoice)

    assert selection.parsed.vendor == "é"
    assert selection.fields["total"].logprob == -0.5
    assert selection.fields["vendor"].logprob == -2.0


def test_a_censored_or_missing_logprob_is_none_and_not_a_number() -> None:
    tokens = ['{"vendor":', '"A"', ',"total":', "7", "}"]
    censored = np.array([False, False, False, True, False])
    selection = rank([spelled(tokens, censored=censored)], response_model=Invoice)

    assert selection.fields["vendor"].logprob == -1.0
    assert selection.fields["total"].logprob is None
    assert rank(completions_of(GOOD), response_model=Invoice).fields["total"].logprob is None


def test_the_arguments_of_a_tool_call_are_validated_and_their_tokens_found_in_the_models_markup() -> None:
    call = '[{"arguments":{"total":7,"vendor":"A"},"name":"pay"}]'
    tokens = ["<tool_call>", '{"name":"pay","arguments":{"vendor":', '"A"', ',"total":', "7", "}}", "</tool_call>"]
    fits = spelled(tokens, text=call, finish_reason="tool_calls")
    malformed = Completion(text='[{"arguments":"{oops","name":"pay"}]', index=1, finish_reason="tool_calls")
    two = Completion(text="[{},{}]", index=2, finish_reason="tool_calls")

    selection = rank([fits, malformed, two], response_model=Invoice)

    assert selection.parsed == Invoice(vendor="A", total=Decimal(7))
    assert selection.fields["total"].logprob == -1.0
    assert "2 of 3 completions do not fit Invoice" in " ".join(selection.notes)


def test_calls_of_different_tools_with_equal_arguments_are_different_answers() -> None:
    calls = [f'[{{"arguments":{{"total":7,"vendor":"A"}},"name":"{name}"}}]' for name in ("pay", "refund")]
    completions = [Completion(text=text, index=index, finish_reason="tool_calls") for index, text in enumerate(calls)]

    groups = [candidate.group for candidate in rank(completions, response_model=Invoice).candidates]
    assert groups == [0, 1]


def test_aliases_nested_models_and_lists_are_read() -> None:
    class Line(BaseModel):
        price: float

    class Order(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        customer: str = Field(alias="buyer")
        lines: list[Line] = []

    tokens = ['{"buyer":', '"Bo"', ',"lines":', '[{"price":1}]', "}"]
    selection = rank([spelled(tokens)], response_model=Order)

    assert selection.fields["customer"].value == "Bo"
    assert selection.fields["customer"].logprob == -1.0
    assert selection.fields["lines"].value == [Line(price=1)]


def test_a_list_has_no_fields_and_is_still_chosen_by_vote() -> None:
    selection = rank(completions_of("[1]", "[2]", "[2.0]"), response_model=RootModel[list[float]])

    assert selection.parsed.root == [2.0]
    assert selection.fields == {}


def test_a_cut_answer_does_not_win_even_where_it_is_whole_json() -> None:
    cut_completion = Completion(text=GOOD, finish_reason="length")
    with pytest.raises(NoCompletionError, match="ended with 'length'") as excinfo:
        rank([cut_completion], response_model=Invoice)
    assert excinfo.value.completions == (cut_completion,)


HOSTILE = {
    "deep list": "[" * 100_000 + "]" * 100_000,
    "deep object": '{"vendor":' * 50_000 + "1" + "}" * 50_000,
    "deep member": '{"vendor":"A","total":' + "[" * 900 + "]" * 900 + "}",
    "long integer": '{"vendor":"A","total":' + "9" * 100_000 + "}",
    "beyond a float": '{"vendor":"A","total":1e999999}',
    "NaN": '{"vendor":"A","total":NaN}',
    "Infinity": '{"vendor":"A","total":-Infinity}',
    "key twice": '{"vendor":"A","total":1,"total":2}',
    "half a pair": '{"vendor":"\\ud800","total":1}',
    "too long": '{"vendor":"' + "x" * 10_000_000 + '","total":1}',
    "only braces": "{" * 900_000,
    "exponent of 20 digits": '{"vendor":"A","total":1e99999999999999999999}',
    "negative exponent of 20 digits": '{"vendor":"A","total":[-1.5E-99999999999999999999]}',
    "exponent of 5,000 digits": '{"vendor":"A","total":1e' + "9" * 5000 + "}",
    "integer of 5,000 digits": '{"vendor":"A","total":' + "9" * 5000 + "}",
    "empty": "",
    "null": "null",
}


@pytest.mark.parametrize("model", [Invoice, SCHEMA], ids=["class", "schema"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_json_does_not_fit_soon_and_does_no_harm(text: str, model: Any) -> None:
    start = time.perf_counter()
    selection = rank(completions_of(text, GOOD), response_model=model)

    assert selection.winner == 1
    assert time.perf_counter() - start < 5
    assert max(map(len, selection.notes)) < 1000


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='{}[]":,0123456789eE+-.tfnul \\`\n\ud800é', max_size=60))
def test_no_text_raises_anything(text: str) -> None:
    for model in (Invoice, SCHEMA):
        assert rank(completions_of(GOOD, text), response_model=model).parsed is not None


def test_a_validator_that_raises_anything_costs_no_answer() -> None:
    class Odd(BaseModel):
        a: int

        @field_validator("a")
        @classmethod
        def no_ones(cls, value: int) -> int:
            if value == 1:
                raise ZeroDivisionError("by design")
            return value

    selection = rank(completions_of('{"a":1}', '{"a":2}'), response_model=Odd)
    assert selection.parsed.a == 2
    assert "ZeroDivisionError: by design" in " ".join(selection.notes)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (int, "takes a pydantic model class or a JSON schema dict, not int"),
        (Invoice(vendor="A", total=Decimal(1)), "not Invoice"),
        ({"type": "nonsense"}, "is not a JSON schema"),
        ({"$ref": "https://example.com/invoice.json"}, "refers to another document"),
    ],
)
def test_a_wrong_model_is_refused_before_anything_is_sent(model: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        rank(completions_of(GOOD), response_model=model)


def test_a_schema_that_holds_itself_or_points_nowhere_is_a_misfit_and_no_crash() -> None:
    for schema in ({"$ref": "#"}, {"$ref": "#/$defs/absent"}):
        with pytest.raises(NoCompletionError, match="None of 1 completions fits"):
            rank(completions_of(GOOD), response_model=schema)


def test_without_the_extra_a_schema_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jsonschema", None)
    with pytest.raises(MissingExtraError, match=r"swift-client\[schema\]"):
        create_response_schema(SCHEMA)


def test_each_wire_format_sends_the_schema_in_its_own_form() -> None:
    schema = to_strict_schema(Invoice.model_json_schema())

    assert is_strict(schema)
    assert not is_strict(SCHEMA)
    assert schema_fields("openai_chat", "Invoice", schema) == {
        "response_format": {"type": "json_schema", "json_schema": {"name": "Invoice", "schema": schema, "strict": True}}
    }
    assert schema_fields("openai_responses", "Invoice", schema)["text"]["format"]["name"] == "Invoice"  # type: ignore[index]
    assert schema_fields("anthropic", "Invoice", schema) is None
    assert schema_fields("openai_completions", "Invoice", schema) is None


def test_gemini_gets_references_written_out_and_none_where_a_schema_holds_itself() -> None:
    nested = {"$defs": {"L": {"type": "integer", "$comment": "x"}}, "type": "array", "items": {"$ref": "#/$defs/L"}}
    itself = {"type": "object", "properties": {"next": {"$ref": "#"}}}

    assert schema_fields("gemini", "x", nested) == {
        "responseMimeType": "application/json",
        "responseSchema": {"type": "array", "items": {"type": "integer"}},
    }
    assert schema_fields("gemini", "x", itself) is None


def reranker(server: FaultServer, **options: Any) -> SwiftReranker:
    return SwiftReranker("openai-compatible", "m", base_url=server.url, max_retries=0, **options)


def test_best_of_tells_the_provider_and_returns_the_object(fault_server: FaultServer) -> None:
    fault_server.script(chat([GOOD, "no", GOOD, invoice("B", 2)]))
    with reranker(fault_server) as rr:
        selection = rr.best_of("An invoice?", 4, response_model=Invoice)

    assert fault_server.requests[0].json["response_format"]["json_schema"]["name"] == "Invoice"
    assert selection.parsed == Invoice(vendor="Acme", total=Decimal("12.5"))
    votes = [candidate.weight for candidate in selection.candidates]
    assert max(votes) / sum(votes) <= selection.fields["vendor"].agreement < 1
    assert selection.fields["vendor"].logprob is not None
    json.dumps(selection.to_dict())


def test_your_own_response_format_or_tools_are_left_alone(fault_server: FaultServer) -> None:
    fault_server.answers = (GOOD,)
    with reranker(fault_server) as rr:
        rr.best_of("q", 1, response_model=Invoice, response_format={"type": "json_object"})
        rr.best_of("q", 1, response_model=Invoice, tools=[])

    assert [request.json.get("response_format") for request in fault_server.requests] == [{"type": "json_object"}, None]


def test_a_provider_that_refuses_schemas_is_asked_without_and_a_note_says_so(fault_server: FaultServer) -> None:
    fault_server.script(error(400, "This response_format type is unavailable now"), chat([GOOD]))
    with reranker(fault_server) as rr:
        selection = rr.best_of("q", 1, response_model=Invoice)

    assert "response_format" not in fault_server.requests[1].json
    assert "refused the schema" in selection.notes[0]


def test_a_refused_schema_is_remembered_and_another_one_is_tried(fault_server: FaultServer) -> None:
    fault_server.script(error(400, "This response_format type is unavailable now"), *[chat([GOOD])] * 3)
    with reranker(fault_server) as rr:
        first, second = (rr.best_of("q", 1, response_model=Invoice) for _ in range(2))
        rr.best_of("q", 1, response_model=SCHEMA)

    assert ["response_format" in request.json for request in fault_server.requests] == [True, False, False, True]
    assert first.notes == second.notes
    assert second.parsed is not None


def test_a_schema_is_not_held_refused_if_the_request_fails_without_it_too(fault_server: FaultServer) -> None:
    fault_server.script(*[error(400, "The grammar of this request is broken")] * 2, chat([GOOD]))
    with reranker(fault_server) as rr:
        with pytest.raises(BadRequestError, match="grammar"):
            rr.best_of("q", 1, response_model=Invoice, chat_template_kwargs={"grammar": "("})
        rr.best_of("q", 1, response_model=Invoice)

    assert ["response_format" in request.json for request in fault_server.requests] == [True, False, True]


def test_the_deadline_counts_from_the_call_also_after_a_refused_schema(fault_server: FaultServer) -> None:
    refusal = error(400, "This response_format type is unavailable now")
    fault_server.script(after(0.6, refusal), after(0.6, chat_stream([GOOD])))
    with reranker(fault_server) as rr, pytest.raises(NoCompletionError, match=r"deadline of 0\.8 s"):
        rr.best_of("q", 1, response_model=Invoice, deadline=0.8)


def test_another_refusal_is_raised_as_it_is(fault_server: FaultServer) -> None:
    fault_server.script(error(400, "The prompt is too long"))
    with reranker(fault_server) as rr, pytest.raises(BadRequestError, match="too long"):
        rr.best_of("q", 1, response_model=Invoice)
    assert len(fault_server.requests) == 1


async def test_the_async_face_does_the_same_and_stopping_looks_at_whole_objects(fault_server: FaultServer) -> None:
    fault_server.answers = (GOOD,)
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as rr:
        selection = await rr.best_of("q", 16, response_model=Invoice, stopping="auto")
    assert selection.parsed.vendor == "Acme"
    assert len(selection.candidates) < 16


def test_none_that_fits_is_an_error_that_holds_what_came(fault_server: FaultServer) -> None:
    fault_server.answers = ("not JSON",)
    with reranker(fault_server) as rr, pytest.raises(NoCompletionError, match="None of 3 completions fits") as excinfo:
        rr.best_of("q", 3, response_model=Invoice)
    assert len(excinfo.value.completions) == 3


def test_best_of_takes_a_schema_from_a_file_on_the_command_line(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.answers = (GOOD,)
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    options = ["--provider", "openai-compatible", "--model", "m", "--base-url", fault_server.url]
    result = command("best-of", "q", *options, "-n", "2", "--schema", str(file), "--json", cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["parsed"] == {"vendor": "Acme", "total": 12.5}


def test_the_longest_text_is_bounded() -> None:
    assert MAX_TEXT_LENGTH <= 1_000_000


def test_text_beside_a_call_does_not_hide_its_object() -> None:
    call = ToolCall(name="pay", arguments='{"vendor": "A", "total": 7}')
    beside = Completion(text="I pay now.", finish_reason="tool_calls", tool_calls=(call,))
    assert rank([beside], response_model=Invoice).parsed == Invoice(vendor="A", total=7)


def test_the_object_of_a_trajectory_is_in_its_last_message() -> None:
    steps = [
        {"role": "assistant", "content": '{"vendor": "B", "total": 1}'},
        {"role": "user", "content": "Are you sure?"},
        {"role": "assistant", "content": '{"vendor": "A", "total": 7}'},
    ]
    assert rank([steps], response_model=Invoice).parsed == Invoice(vendor="A", total=7)

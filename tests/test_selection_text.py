"""Tests of a Selection as text, as JSON, as a pydantic field and as the result of a FastAPI route, and of its types."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from swift_client import Completion, Failure, Selection, SwiftReranker, rank
from swift_client.display import selection_dict
from swift_client.errors import ConfigurationError, ServerError
from tests.face.made import Fixed, completions, head


class Invoice(BaseModel):
    total: Decimal
    due: date


def texts(*values: str) -> list[Completion]:
    return [Completion(text=text, index=index) for index, text in enumerate(values)]


def test_a_summary_names_the_text_the_answer_the_votes_and_the_signal() -> None:
    lines = str(rank(texts("The answer is 4.", "The answer is 5.", "I think\n\nthe answer is 4."))).splitlines()
    assert lines[0] == "The answer is 4."
    assert "answer 4" in lines[1]
    assert "4 ×2, 5 ×1" in lines[1]
    assert "chosen by vote among 3" in lines[2]
    assert "signal text" in lines[2]


@given(st.lists(st.text(max_size=400), min_size=1, max_size=12), st.lists(st.text(), max_size=6))
def test_a_summary_has_at_most_ten_lines_of_safe_text(values: list[str], notes: list[str]) -> None:
    selection = rank(texts(*values))
    failure = Failure(error=ServerError("\x1b[31mbroken\n" * 5), lost=1)
    noisy = Selection(
        candidates=selection.candidates, winner=selection.winner, signal="text", scorer="none", method="best",
        notes=tuple(notes), failures=(failure,) * 4,
    )  # fmt: skip
    for shown in (str(selection), str(noisy)):
        assert len(shown.split("\n")) <= 10
        assert "\x1b" not in shown
    assert len(repr(noisy)) < 800


def test_json_is_the_dict_and_survives_what_models_send() -> None:
    selection = rank(texts("\ud83d lone \u202e", "b"))
    assert json.loads(selection.to_json()) == selection.to_dict()
    assert selection.to_json(indent=2).startswith('{\n  "id"')


def test_json_of_a_parsed_model_holds_its_dates_and_decimals() -> None:
    reply = texts('{"total": 12.50, "due": "2026-12-01"}')
    selection = rank(reply, response_model=Invoice)
    assert json.loads(selection.to_json())["parsed"] == {"total": "12.5", "due": "2026-12-01"}
    schema = rank(reply, response_model=Invoice.model_json_schema())
    assert json.loads(schema.to_json())["parsed"]["due"] == "2026-12-01"


def test_pydantic_takes_a_selection_and_writes_its_dict() -> None:
    class Answered(BaseModel):
        question: str
        selection: Selection[Invoice]

    selection = rank(texts("4", "5"))
    answered = Answered(question="2 + 2?", selection=selection)
    assert answered.selection is selection
    assert json.loads(answered.model_dump_json())["selection"] == selection.to_dict()
    with pytest.raises(ValidationError):
        Answered(question="q", selection={"text": "4"})


def test_the_published_json_schema_names_every_member() -> None:
    selection = rank(completions())
    schema = TypeAdapter(Selection).json_schema(mode="serialization")
    plain = json.loads(selection.to_json())
    assert list(schema["properties"]) == schema["required"]
    assert set(schema["properties"]) == set(plain) == set(selection_dict(selection))
    names = {str: "string", float: "number", int: "integer", dict: "object", list: "array", type(None): "null", bool: "boolean"}  # fmt: skip  # noqa: E501
    for name, value in plain.items():
        kind = schema["properties"][name].get("type", names[type(value)])
        assert names[type(value)] in kind, name


def test_a_fastapi_route_returns_a_selection() -> None:
    app = FastAPI()

    @app.get("/best")
    def best() -> Selection:
        return rank(completions())

    client = TestClient(app)
    body = client.get("/best").json()
    assert body["text"] == rank(completions()).text
    assert len(body["candidates"]) == 4
    described = client.get("/openapi.json").json()["paths"]["/best"]["get"]["responses"]["200"]
    assert "answer_probability" in described["content"]["application/json"]["schema"]["properties"]


def test_rank_scores_with_a_head_and_says_what_it_was_trained_on() -> None:
    own = head()
    by_head = rank(completions(), head=own)
    assert by_head.scorer == own.name
    assert by_head.probability is not None
    with SwiftReranker(Fixed(), "m", head=own) as reranker:
        assert [c.score for c in by_head.candidates] == [c.score for c in reranker.rank(completions()).candidates]
    with pytest.raises(ConfigurationError, match="both given"):
        rank(completions(), head=own, scorer="entropy")


def test_rank_without_a_fitting_head_says_so() -> None:
    selection = rank(completions(), head="auto")
    assert any("no trained head" in note for note in selection.notes)
    assert selection.scorer == "mean_logprob"


TYPED = """
from typing import Any, assert_type
from pydantic import BaseModel
from swift_client import AsyncSwiftReranker, Cascade, Selection, SwiftReranker, rank
from swift_client.errors import SwiftClientError

class Invoice(BaseModel):
    total: float

def sync(reranker: SwiftReranker, cascade: Cascade) -> None:
    assert_type(reranker.best_of("q", response_model=Invoice), Selection[Invoice])
    assert_type(reranker.best_of("q", 4, response_model=Invoice, top_k=3).parsed, Invoice)
    assert_type(cascade.best_of("q", response_model=Invoice, deadline=3), Selection[Invoice])
    assert_type(reranker.best_of("q", n=4, temperature=0.5), Selection[Any])
    assert_type(reranker.best_of("q", min_p=0.1, response_model={"type": "object"}), Selection[Any])
    assert_type(reranker.rank("{}", response_model=Invoice), Selection[Invoice])
    assert_type(rank("{}", response_model=Invoice).parsed, Invoice)
    assert_type(next(reranker.best_of_many(["q"], 4, temperature=0.5)), Selection[Any])
    assert_type(next(cascade.best_of_many(["q"], response_model=Invoice)), Selection[Invoice])
    pairs = reranker.best_of_many([("a", "q")], response_model=Invoice, in_order=False, return_exceptions=True)
    assert_type(next(pairs), tuple[str | int, Selection[Invoice] | SwiftClientError])

async def on_a_loop(reranker: AsyncSwiftReranker) -> Selection:
    assert_type(await reranker.best_of("q", response_model=Invoice), Selection[Invoice])
    async for outcome in reranker.best_of_many(iter(["q"]), return_exceptions=True, top_k=3):
        assert_type(outcome, Selection[Any] | SwiftClientError)
    return await reranker.best_of("q")
"""


def test_type_checkers_know_the_type_of_what_was_parsed(tmp_path: Path) -> None:
    file = tmp_path / "typed.py"
    file.write_text(TYPED)
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "mypy", str(file)]  # the cache of `make types` serves it
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_named_options_are_those_of_best_of() -> None:
    import inspect

    from swift_client.reranker.best_of import CallOptions

    parameters = inspect.signature(SwiftReranker.best_of).parameters
    keywords = [name for name, value in parameters.items() if value.kind is value.KEYWORD_ONLY]
    assert [name for name in keywords if name != "response_model"] == list(CallOptions.__annotations__)

"""Tests of the values that users read: fields in their order, their words, and the keys of ``to_dict()``."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from swift_client import Candidate, Completion, Event, Failure, Selection, Usage, rank, types
from swift_client.errors import ServerError
from swift_client.features import FEATURES, RESPONSE_TERMS, response_terms, token_features
from swift_client.scorers import SCORERS
from swift_client.types import Field, Step, Stopped, Verification
from tests.face.frozen import golden, keys, recorded, spelled
from tests.face.made import completion, completions

VALUES = (Completion, types.ToolCall, Candidate, Selection, Usage, Failure, Event, Step, Stopped, Field, Verification)


def words(hint: object) -> list[Any]:
    """Return the values that an annotation allows by name."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [word for part in get_args(hint) for word in words(part)]


def default(field: Any) -> str:
    if field.default_factory is not MISSING:
        return f"<{field.default_factory.__name__.lstrip('_')}>" if field.default_factory in (dict, Usage) else "<made>"
    return "required" if field.default is MISSING else spelled(field.default)


def full_selection() -> Selection:
    """Make a selection with a value in every field."""
    error = ServerError("down", provider="openai", status=503, request_id="r", retryable=True)
    usage = Usage(prompt_tokens=3, cached_prompt_tokens=1, completion_tokens=9, calls=2, estimated=True)
    thought = Completion(text="hm", tokens=("hm",), logprobs=completion(0).logprobs[:1],
                         top_logprobs=completion(0).top_logprobs[:1], censored=completion(0).censored[:1])  # fmt: skip
    candidates = tuple(
        Candidate(
            completion=Completion(text=f'{{"total": {index}}}', index=index, thinking=thought),
            score=0.5, probability=0.75, answer="4", group=0, answer_probability=0.8, weight=1.0, verifier_score=0.9,
        )
        for index in range(2)
    )  # fmt: skip
    return Selection(
        id="5e1ec7",
        candidates=candidates,
        winner=1,
        signal="logprobs:k=20",
        scorer="mean_logprob",
        method="vote",
        usage=usage,
        failures=(Failure(error=error, lost=2, attempts=3),),
        cost=0.25,
        notes=("One call failed.",),
        elapsed=1.5,
        provider="openai",
        model="m",
        stopped=Stopped(rule="beta", after=2, planned=4, posterior=0.9, reason="Sure.", saved_tokens=7),
        reused=1,
        accepted=True,
        path=(
            Step(provider="openai", model="m", n=4, usage=usage, cost=0.25, accepted=True, answer_probability=0.8),
            Step(provider="openai", model="l", n=4, error=error),
        ),
        parsed={"total": 1},
        fields={"total": Field(value=1, logprob=-0.5, agreement=0.5)},
        verification=Verification(
            judge="openai/j",
            mode="p_true",
            judged=1,
            calls=3,
            usage=usage,
            cost=0.01,
            confidence=0.9,
            failures=(Failure(error=error, lost=1, attempts=3),),
        ),
    )


def test_fields_their_order_defaults_and_words_stay() -> None:
    described_fields = {}
    for kind in VALUES:
        hints = get_type_hints(kind)
        described_fields[kind.__name__] = [
            [field.name, default(field), *words(hints[field.name])] for field in fields(kind)
        ]
    golden("fields", described_fields)


def test_a_selection_as_json_has_the_frozen_document() -> None:
    golden("selection", full_selection().to_dict())


def test_everything_public_of_a_selection_can_be_read() -> None:
    selection = full_selection()
    assert (selection.text, selection.score, selection.probability, selection.answer) == (
        '{"total": 1}',
        0.5,
        0.75,
        "4",
    )
    assert (selection.answer_probability, selection.best) == (0.8, selection.candidates[1])
    assert selection.best.text == selection.text
    assert selection._repr_html_().strip().startswith("<")


@pytest.mark.parametrize("kind", VALUES)
def test_values_are_frozen_and_go_by_name(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.kw_only for field in fields(kind))
    assert getattr(types, kind.__name__) is kind


def test_fixed_completions_get_the_recorded_scores_of_every_scorer() -> None:
    scores = {}
    for name in SCORERS:
        selection = rank(completions(), scorer=name, answer="number")
        scores[name] = [candidate.score for candidate in selection.candidates]
        assert (selection.method, selection.answer) == ("vote", "4")
    near("scores", scores)


def test_fixed_completions_have_the_recorded_features() -> None:
    sample = completions(3)
    near(
        "features",
        {name: [token_features(sample, [name], width=20).values.sum(dtype=float)] for name in FEATURES}
        | {
            f"response {name}": [response_terms(sample, [name]).values.sum(dtype=float)]
            for name in RESPONSE_TERMS
            if name != "agreement"  # belongs to a whole question
        },
    )


def near(name: str, numbers: dict[str, list[Any]]) -> None:
    """Compare numbers with recorded ones, within what another processor's float32 may differ."""
    frozen = recorded(name, numbers)
    assert list(numbers) == list(frozen)
    for key, values in numbers.items():
        assert values == pytest.approx(frozen[key], rel=1e-5, abs=1e-6), key


def test_keys_reads_a_document_to_its_ends() -> None:
    assert keys({"a": [{"b": 1}, {"c": [1]}], "d": {"e": []}}) == ["a", "a[].b", "a[].c", "d", "d.e"]

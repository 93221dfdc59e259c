"""The choice among the completions of a question: Selection, its candidates and its other parts.

N is the number of completions of one question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Generic, Literal

from swift_client import display
from swift_client.errors import SwiftClientError
from swift_client.types.calls import Failure
from swift_client.types.completion import Completion, Usage

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Parsed = TypeVar("Parsed", default=Any, covariant=True)  # a plain ``Selection`` is a ``Selection[Any]``
else:
    from typing import TypeVar

    Parsed = TypeVar("Parsed", covariant=True)

# Values of ``select=``; "auto": a vote if answers can be read.
Method = Literal["auto", "best", "vote", "consensus"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidate:
    """A completion with its score, inside a selection.

    Attributes:
        score: Higher is better; None if there is no signal for it.
        probability: Calibrated probability that this completion is correct, 0..1; None without a calibrated head.
        answer: The compared answer in normal form; None if none could be read or the completion does not vote.
        group: Equal numbers for equal answers, however they are written; None without an answer.
        answer_probability: Probability that its answer is correct, 0..1: the answer's share of the odds of all answers,
            which are the sums of the weights of their votes, to the power of 1/β. Answers that nobody gave have the
            odds 1, so that all probabilities sum to less than 1. None without a calibrated head or without an answer.
        weight: Weight of its vote, or of its text in a consensus; 0 if it did not take part.
        consensus: Weighted mean similarity to all candidates, itself included, 0..1. None unless chosen by
            consensus.
        verifier_score: The verifier's judgement of its answer, 0..1, 1 for surely right; equal answers have the same.
            In mode "pairwise" the share of the exponentials of all strengths. None if it was not judged.
    """

    completion: Completion
    score: float | None = None
    probability: float | None = None
    answer: str | None = None
    group: int | None = None
    answer_probability: float | None = None
    weight: float = 0.0
    consensus: float | None = None
    verifier_score: float | None = None

    @property
    def text(self) -> str:
        """The completion's text."""
        return self.completion.text


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """The reason why sampling ended, at or before the last planned completion.

    Attributes:
        rule: The stopping rule with its parameters, as ``stopping_rule`` parses it; or "budget".
        after: Number of completions drawn.
        planned: Number of completions planned: n.
        posterior: The probability or share that the rule compares with its threshold, 0..1; None if the rule has none.
        reason: The reason in one sentence.
        saved_tokens: Estimated completion tokens of the completions not drawn, from the mean of those drawn.
    """

    rule: str
    after: int
    planned: int
    posterior: float | None
    reason: str
    saved_tokens: int


@dataclass(frozen=True, kw_only=True)
class Field:
    """One top-level field of the chosen object, with a ``response_model``.

    Attributes:
        value: As in ``Selection.parsed``.
        logprob: Sum of the logprobs of the tokens that spell its value, quotes included, nats, <= 0. None if there are
            no logprobs, one of them is censored, or the tokens do not spell the object.
        agreement: Weighted share of the votes whose object has the same value in this field, 0..1.
    """

    value: Any
    logprob: float | None
    agreement: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a Cascade: a reranker that was called.

    Attributes:
        provider: Name of its provider.
        model: Name of its model.
        n: Number of planned completions. Those of an earlier step of the same reranker count, and are not paid for
            again.
        usage: Usage of this step alone.
        cost: US dollars of this step alone; None if the price is unknown.
        accepted: Whether its answer was accepted, at the threshold of its own head.
        answer_probability: Probability of its answer; see ``Candidate.answer_probability``.
        error: The error, if it gave no answer.
    """

    provider: str
    model: str | None
    n: int
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    accepted: bool | None = None
    answer_probability: float | None = None
    error: SwiftClientError | None = None


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The work of a verifier on one question.

    Attributes:
        judge: Name of the model that judged: provider and model.
        mode: "p_true", "score" or "pairwise"; "auto" is resolved.
        judged: Number of distinct answers with a judgement; 0 if the leading answer was sure enough without, or if all
            judgements failed.
        calls: HTTP requests to the judge, failed ones and retries included.
        usage: Tokens and calls of the judge alone.
        cost: US dollars of the judge alone; None if the price is unknown.
        confidence: Posterior probability of the chosen answer among the candidates' answers, 0..1; with a head that was
            trained with this verifier, that it is correct. Before judging if ``judged`` is 0.
        failures: Judgements that failed; ``lost`` is 1 each.
        verifier: Identity of the judgements, such as "openai/gpt-4.1-nano p_true v1": those of equal identities may be
            mixed, and a head knows a verifier by it.
        when: "doubt" or "always", as of ``Verifier``.
        answers: Number of distinct answers that were to be judged; 0 if the leading answer was sure enough without.
    """

    judge: str
    mode: str
    judged: int = 0
    calls: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    confidence: float | None = None
    failures: tuple[Failure, ...] = ()
    verifier: str = ""
    when: str = "doubt"
    answers: int = 0


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """The choice that a shadow head would have made of the same completions; it decides nothing.

    It chooses by its scores and votes alone, without a verifier, a judge or an external scorer.

    Attributes:
        scorer: Name of the head, or of the scorer that took its place on answers unlike those of its training.
        digest: First digits of the hash of its weights, which tell heads of the same model apart.
        winner: Index of its choice in ``Selection.candidates``; None if it failed.
        answer: Its chosen answer in normal form; None if answers could not be read.
        agrees: Whether its answer equals the chosen one; without answers, if both chose the same completion.
        score: Its score of its choice; higher is better.
        probability: Calibrated probability that its chosen completion is correct, 0..1.
        answer_probability: Calibrated probability that its answer is correct, 0..1.
        accepted: Whether it would have accepted its answer; see ``Selection.accepted``.
        scores: (N,) its scores of the candidates; None without a signal.
        error: The reason if it failed; None otherwise.
    """

    scorer: str
    digest: str
    winner: int | None = None
    answer: str | None = None
    agrees: bool | None = None
    score: float | None = None
    probability: float | None = None
    answer_probability: float | None = None
    accepted: bool | None = None
    scores: tuple[float | None, ...] = ()
    error: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Selection(Generic[Parsed]):
    """The choice among N completions, with everything that it rests on.

    ``Selection[Invoice]`` says that ``parsed`` is an Invoice, the ``response_model`` of the call. A Selection may be a
    field of a pydantic model, and the declared result of a FastAPI route, which then sends ``to_dict()``.

    Attributes:
        candidates: (N,) in index order, 0..N-1.
        winner: Index of the chosen one in ``candidates``.
        signal: The signal of the choice: "logprobs:k=K", "logprobs:chosen", "text", "judge" or "hidden".
        scorer: Name of the scorer or head.
        method: The method of choice: the best score, a vote of the answers, or a consensus of the texts.
        usage: Tokens and calls of this question.
        failures: Calls that failed.
        cost: US dollars; None, and not 0, if the price is unknown. An estimate if ``usage`` is estimated.
        notes: One sentence per thing that did not go as requested, every fallback included.
        elapsed: Seconds from the call to the choice.
        provider: Name of the provider.
        model: Name of the model.
        stopped: The end of sampling by a stopping rule or the budget; None without either.
        reused: Number of candidates from ``store=``: the first ones. They were paid for earlier and are not counted in
            ``usage``.
        accepted: Whether the answer is confident enough to be used without review, at the risk that the head was
            calibrated for. None if there is no calibration, or if it does not cover this case; ``notes`` then give the
            reason.
        path: The steps of a Cascade, in order; ``usage`` and ``cost`` are their sums. Empty without a Cascade.
        parsed: The chosen object with a ``response_model``: an instance of the model, or plain values for a JSON
            schema.
        fields: The top-level fields of the chosen object by name; empty without ``response_model``, or if it is not an
            object.
        verification: The work of the verifier, whose tokens ``usage`` and ``cost`` include; None without one.
        id: Random name of this choice, by which ``reranker.feedback()`` knows it.
        shadow: The choice of the head of ``shadow=``, which changed nothing; None without one.
    """

    candidates: tuple[Candidate, ...]
    winner: int
    signal: str
    scorer: str
    method: Literal["best", "vote", "consensus"]
    usage: Usage = field(default_factory=Usage)
    failures: tuple[Failure, ...] = ()
    cost: float | None = None
    notes: tuple[str, ...] = ()
    elapsed: float = 0.0
    provider: str | None = None
    model: str | None = None
    stopped: Stopped | None = None
    reused: int = 0
    accepted: bool | None = None
    path: tuple[Step, ...] = ()
    parsed: Parsed = None  # type: ignore[assignment]  # None only without a response_model
    fields: Mapping[str, Field] = field(default_factory=dict)
    verification: Verification | None = None
    id: str = field(default_factory=partial(token_hex, 16))
    shadow: Shadow | None = None

    @property
    def best(self) -> Candidate:
        """The chosen candidate."""
        return self.candidates[self.winner]

    @property
    def text(self) -> str:
        """The chosen text."""
        return self.best.completion.text

    @property
    def score(self) -> float | None:
        """The chosen candidate's score; higher is better."""
        return self.best.score

    @property
    def probability(self) -> float | None:
        """The chosen candidate's calibrated probability; None until a calibrated head is loaded."""
        return self.best.probability

    @property
    def answer(self) -> str | None:
        """The chosen answer in normal form; None if answers could not be read."""
        return self.best.answer

    @property
    def answer_probability(self) -> float | None:
        """The chosen answer's calibrated probability; see ``Candidate.answer_probability``."""
        return self.best.answer_probability

    def __str__(self) -> str:
        """Return a summary of at most ten lines."""
        return display.selection_text(self)

    def __repr__(self) -> str:
        names = ("text", "answer", "score", "probability", "method", "signal")
        return f"Selection({', '.join(f'{name}={getattr(self, name)!r:.80}' for name in names)})"

    def _repr_html_(self) -> str:
        """Show the selection in a notebook."""
        return display.selection_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, without arrays."""
        return display.selection_dict(self)

    def to_json(self, *, indent: int | None = None) -> str:
        """Return ``to_dict()`` as one JSON document, with ``indent`` spaces per level."""
        return display.selection_json(self, indent=indent)

    if not TYPE_CHECKING:  # pydantic would not see the schema below if ``Selection[Invoice]`` were a generic alias
        __class_getitem__ = classmethod(lambda cls, parsed: cls)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Let pydantic and FastAPI serialize a Selection by ``to_dict()``."""
        return display.selection_schema(cls)

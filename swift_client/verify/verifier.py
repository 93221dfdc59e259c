"""The verifier that users configure: the judge, the mode, and when it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

from swift_client.errors import ConfigurationError
from swift_client.sampling import check_messages
from swift_client.sampling.sync_loop import BackgroundLoop
from swift_client.types import Message
from swift_client.validation import check_reference
from swift_client.verify.prompts import Criteria, parse_criteria
from swift_client.verify.score_answer import score_answer

ModeName = Literal["auto", "p_true", "score", "pairwise"]
When = Literal["doubt", "always"]


@dataclass(frozen=True, eq=False)
class Verifier:
    """A model asked to judge the candidates: ``SwiftReranker("openai", verifier=Verifier("openai/gpt-4.1"))``.

    It sees the question and the text of each distinct answer, and its verdict is read from the logprobs of one token.
    Judgements and votes choose together: an answer's posterior is the weight of its votes times p / (1 - p), where p
    is its judgement, clipped to 0.02 .. 0.98. A head that was trained with this verifier (``collect --verifier``)
    weighs judgements as it learnt, and sets aside a verifier that did not help.

    Attributes:
        judge: "self": the model that answers; a provider and model, such as "openai/gpt-4.1-nano"; or a reranker,
            whose address, key and limits are used.
        mode: "p_true": is this answer correct, Yes or No, two calls per distinct answer; "score": a letter for each
            criterion, one call per criterion and distinct answer; "pairwise": comparisons of two answers, about 1.5
            calls per distinct answer; "auto": "p_true" for short answers and "pairwise" for long ones.
        criteria: Text, list of texts, or dict from text to weight, of what a good answer is; None: it is correct.
        when: "doubt": only if the votes leave the leading answer in doubt; "always".
        reference: Notes for the judge on every question, such as a rubric; ``best_of(reference=)`` goes before it.
        require: Whether it is an error (VerificationError) if all judgements fail; else the votes choose alone, and a
            note says so.

    Raises:
        ConfigurationError: a value is wrong.
    """

    judge: object = "self"
    _: KW_ONLY
    mode: ModeName = "auto"
    criteria: Criteria = None
    when: When = "doubt"
    reference: str | None = None
    require: bool = False

    def __post_init__(self) -> None:
        if self.mode not in get_args(ModeName):
            names = ", ".join(map(repr, get_args(ModeName)))
            raise ConfigurationError(f"A verifier has no mode {self.mode!r}.", hint=f"Use one of {names}.")
        if self.when not in get_args(When):
            raise ConfigurationError(f"A verifier cannot judge {self.when!r}.", hint='Use "doubt" or "always".')
        check_reference(self.reference)
        parse_criteria(self.criteria)

    def score(self, prompt: str | Sequence[Message], text: str, *, reference: str | None = None) -> float:
        """Judge one answer without sampling.

        Args:
            prompt: the question, as ``best_of`` takes it.
            text: the answer.
            reference: notes for the judge on this question.

        Returns:
            Its judgement, 0..1; 1 is surely right, or best.

        Raises:
            ConfigurationError: an argument is wrong, the judge is "self", or the mode compares pairs.
            VerificationError: no judgement arrived; the causes are inside.
        """
        loop = BackgroundLoop()
        try:
            return loop.run(lambda: self.ascore(prompt, text, reference=reference))
        finally:
            loop.close()

    async def ascore(self, prompt: str | Sequence[Message], text: str, *, reference: str | None = None) -> float:
        """Do as ``score()``, on the caller's event loop."""
        check_reference(reference)
        return await score_answer(
            self.judge,
            self.mode,
            check_messages(prompt),
            text,
            criteria=self.criteria,
            reference=reference or self.reference,
        )


def resolve_verifier(verifier: object) -> Verifier | None:
    """Return the verifier that ``verifier=`` means; a text names the judge. Raises ConfigurationError otherwise."""
    match verifier:
        case None | Verifier():
            return verifier
        case str():
            return Verifier(verifier)
    raise ConfigurationError(
        f"verifier= takes a Verifier, a judge's name or None, not {type(verifier).__name__}.",
        hint='Such as verifier="self" or verifier=Verifier("openai/gpt-4.1-nano").',
    )

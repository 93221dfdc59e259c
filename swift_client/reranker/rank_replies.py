"""Replies that you already have: parse them, and rank them without sending anything."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar, overload

from swift_client.adapters import Provider, Reply, resolve
from swift_client.adapters.codecs import detect
from swift_client.adapters.codecs.inputs import normalize_reply
from swift_client.answers import Spec
from swift_client.errors import ConfigurationError
from swift_client.models.resolve_head import UNKNOWN_MODEL, Head, ResolvedHead, find_for_model, load_named
from swift_client.reranker.acceptance import with_acceptance
from swift_client.sampling import check_messages
from swift_client.sampling.sync_loop import BackgroundLoop
from swift_client.scoring.result import ScoredCompletions, UserSimilarity
from swift_client.selection.select import (
    FALLBACK_SCORER,
    Scorer,
    SelectionConfig,
    build_selection,
    score_completions,
)
from swift_client.selection.select import select as select_from
from swift_client.structured.schema import create_response_schema, require_match
from swift_client.types import Completion, Message, Method, Selection, Usage
from swift_client.validation import check_reference
from swift_client.verify.connect_judge import connect_judge
from swift_client.verify.judge import Judge
from swift_client.verify.verification import JudgedQuestion, apply_verification, learnt_terms, verify
from swift_client.verify.verifier import Verifier, resolve_verifier

T = TypeVar("T")


def parse_response(
    data: Any, provider: str | Provider = "openai", *, top_logprobs: int | None = None, token_ids: bool = False
) -> list[Completion]:
    """Decode a reply into completions, in the order of their wire index.

    Args:
        data: the reply as bytes, str, dict or SDK object (openai, google-genai, anthropic, litellm), a line of a
            batch's output, a list of these, or JSON lines of them; or an agent's trajectories, each a list of chat
            messages. A trajectory's text is its transcript, and its last message has the answer.
        provider: determines the wire format if the reply's shape does not.
        top_logprobs: number K of columns of every ``top_logprobs``; None means the longest list.
        token_ids: whether to fill in ``top_ids``.

    Raises:
        ResponseDecodeError: it is not a reply of that provider.
        ProviderError: it is an error, or one of a list is.
    """
    row = resolve_format(provider)
    return list(read_reply(data, row.codec, top_logprobs=top_logprobs, token_ids=token_ids, strict=True).completions)


@overload
def rank(
    reply_or_completions: Any,
    *,
    provider: str | Provider = "openai",
    scorer: Scorer = FALLBACK_SCORER,
    answer: Spec = "auto",
    select: Method = "auto",
    response_model: type[T],
    head: Head = None,
    prompt: str | Sequence[Message] | None = None,
    reference: str | None = None,
    verifier: Verifier | str | None = None,
    similarity: str | UserSimilarity | None = None,
) -> Selection[T]: ...


@overload
def rank(
    reply_or_completions: Any,
    *,
    provider: str | Provider = "openai",
    scorer: Scorer = FALLBACK_SCORER,
    answer: Spec = "auto",
    select: Method = "auto",
    response_model: Mapping[str, Any] | None = None,
    head: Head = None,
    prompt: str | Sequence[Message] | None = None,
    reference: str | None = None,
    verifier: Verifier | str | None = None,
    similarity: str | UserSimilarity | None = None,
) -> Selection[Any]: ...


def rank(
    reply_or_completions: Any,
    *,
    provider: str | Provider = "openai",
    scorer: Scorer = FALLBACK_SCORER,
    answer: Spec = "auto",
    select: Method = "auto",
    response_model: object | None = None,
    head: Head = None,
    prompt: str | Sequence[Message] | None = None,
    reference: str | None = None,
    verifier: Verifier | str | None = None,
    similarity: str | UserSimilarity | None = None,
) -> Selection:
    """Choose the best completion of a reply that you already have. Nothing is sent, unless there is a verifier.

    Args:
        reply_or_completions: the same as for ``parse_response()``, or a list of Completion. In a list of replies,
            one that is an error is left out, and a note says so.
        provider: determines the wire format if the reply's shape does not.
        scorer: a name, a callable from completions to N numbers, or a HeadArtifact.
        answer: how the compared answer is read.
        select: "vote", "best", "consensus" (the text most like the others), or "auto": vote if answers can be read and
            compared; consensus of three or more texts if there are no logprobs either.
        similarity: how texts are compared for a consensus: "token_f1" (the default), "chrf", "content", or your
            function from the M different texts to their similarities, (M, M) numbers from 0 to 1.
        response_model: a pydantic model class or a JSON schema dict that answers have to match.
        head: a trained scorer (head) instead of ``scorer``: its name, path or object, or "auto": the one for the model
            in ``provider="openai/gpt-4.1-mini"``, else in the reply. A head that you give yourself is used for any
            model, with a note if the reply names another one.
        prompt: the question, as ``best_of`` takes it. Without it, an answer is accepted only by heads that do not know
            the questions of their training, and a verifier cannot judge.
        reference: notes for the verifier's judge on this question, such as a rubric or a known good answer.
        verifier: a Verifier, or the name of its judge, to which requests are sent; "self" is refused, since no model is
            asked for answers here.

    Raises:
        NoCompletionError: no completion matches ``response_model``.
        ConfigurationError: ``head`` and ``scorer`` are both given, or ``verifier`` without ``prompt``.
        VerificationError: the verifier is required and no judgement arrived.
        ArtifactError: the head cannot be read.
    """
    config = create_rank_config(
        head=head, scorer=scorer, answer=answer, select=select, similarity=similarity, response_model=response_model
    )
    row = resolve_format(provider)
    question = RankedQuestion.create(prompt, reference)
    if head is None:
        reply = read_reply(reply_or_completions, row.codec, token_ids=config.reads_token_ids)
    else:
        reply = read_reply(reply_or_completions, row.codec, token_ids=True)
        model = model_in_name(provider) or reply.model
        resolved = find_for_model(row.name, model) if head == "auto" else load_named(head)
        config = with_head(config, resolved, row.name, model, was_looked_up=head == "auto")
    if (checked := resolve_verifier(verifier)) is None:
        return rank_decoded(reply, row.name, config, question)
    judge = connect_judge(checked.judge)
    loop = BackgroundLoop()
    try:
        return loop.run(lambda: _rank_verified(reply, row, config, question, checked, judge))
    finally:
        loop.close()


def create_rank_config(
    *,
    head: Head = None,
    scorer: Scorer = FALLBACK_SCORER,
    answer: Spec = "auto",
    select: Method = "auto",
    similarity: str | UserSimilarity | None = None,
    response_model: object | None = None,
) -> SelectionConfig:
    """Check the arguments of ``rank()`` and return its rules, without the head; see ``with_head()``.

    Raises:
        ConfigurationError: an argument is wrong, or ``head`` and ``scorer`` are both given.
    """
    if head is not None and scorer not in ("auto", FALLBACK_SCORER):
        raise ConfigurationError("head= and scorer= are both given.", hint="Give one of them.")
    if isinstance(similarity, str) and similarity.startswith("embedding"):
        raise ConfigurationError(
            f"rank() sends no requests, so similarity={similarity!r} cannot be computed.",
            hint="Pass a function that embeds the texts, or sample with a reranker.",
        )
    return SelectionConfig(
        scorer=FALLBACK_SCORER if scorer == "auto" else scorer,
        answer=answer,
        select=select,
        similarity=similarity,
        response_schema=create_response_schema(response_model),
    )


def with_head(
    config: SelectionConfig, resolved: ResolvedHead, provider: str, model: str | None, *, was_looked_up: bool
) -> SelectionConfig:
    """Return the rules with a head, for replies of ``model``; with a note if there is none.

    Args:
        config: the rules without a head.
        resolved: the head.
        provider: name of the replies' provider.
        model: name of the replies' model, if it is known.
        was_looked_up: whether the head was found for this model (``head="auto"``), and not given by the caller.
    """
    artifact, notes = resolved.artifact, resolved.notes
    if artifact is None:
        return replace(config, notes=(*notes, f"There is no trained head for {provider}/{model or UNKNOWN_MODEL}."))
    if model is not None and model != artifact.model:
        artifact = artifact.without_acceptances()
        notes += (f"The head was trained on {artifact.provider}/{artifact.model}, but the reply is of {model}.",)
    return replace(config, scorer=artifact, force_head=not was_looked_up, notes=notes)


@dataclass(frozen=True, kw_only=True)
class RankedQuestion:
    """The question of a reply that is ranked; no messages if it is unknown."""

    messages: tuple[Message, ...] = ()
    reference: str | None = None

    @classmethod
    def create(cls, prompt: str | Sequence[Message] | None, reference: str | None) -> Self:
        """Check ``prompt=`` and ``reference=``. Raises ConfigurationError if one is wrong."""
        check_reference(reference)
        return cls(messages=() if prompt is None else check_messages(prompt), reference=reference)


def rank_reply(
    reply_or_completions: Any, provider: Provider, config: SelectionConfig, question: RankedQuestion
) -> Selection:
    """Rank with a checked config; the Selection has the reply's usage, model and notes."""
    reply = read_reply(reply_or_completions, provider.codec, token_ids=config.reads_token_ids)
    return rank_decoded(reply, provider.name, config, question)


async def rank_reply_verified(
    reply_or_completions: Any,
    provider: Provider,
    config: SelectionConfig,
    question: RankedQuestion,
    verifier: Verifier,
    judge: Judge,
) -> Selection:
    """Rank with a checked config, and let the verifier judge a choice that is in doubt."""
    reply = await asyncio.to_thread(read_reply, reply_or_completions, provider.codec, token_ids=config.reads_token_ids)
    return await _rank_verified(reply, provider, config, question, verifier, judge)


async def _rank_verified(
    reply: Reply,
    provider: Provider,
    config: SelectionConfig,
    question: RankedQuestion,
    verifier: Verifier,
    judge: Judge,
) -> Selection:
    if not question.messages:
        raise ConfigurationError("verifier= needs prompt=.", hint="The judge has to see the question.")
    scored = await asyncio.to_thread(_score, reply.completions, config)
    choice = await asyncio.to_thread(select_from, scored, config.select)
    if config.response_schema:  # an error costs no verdict
        require_match(build_selection(scored, choice), config.response_schema)
    verified = await verify(
        verifier,
        judge,
        scored,
        choice,
        JudgedQuestion(messages=question.messages, reference=question.reference),
        terms=learnt_terms(config.scorer, scored),
    )
    selection = apply_verification(build_selection(scored, verified.choice), verified)
    return await asyncio.to_thread(_complete, selection, reply, provider.name, config, question, scored)


def rank_decoded(reply: Reply, provider: str, config: SelectionConfig, question: RankedQuestion) -> Selection:
    """Rank the completions of a reply of the provider of this name."""
    scored = _score(reply.completions, config)
    selection = build_selection(scored, select_from(scored, config.select))
    return _complete(selection, reply, provider, config, question, scored)


def _score(completions: Sequence[Completion], config: SelectionConfig) -> ScoredCompletions:
    scored = score_completions(completions, config)
    if config.similarity is None:
        return scored
    from swift_client.selection.consensus import compare_texts

    return compare_texts(scored, config.select)


def _complete(
    selection: Selection,
    reply: Reply,
    provider: str,
    config: SelectionConfig,
    question: RankedQuestion,
    scored: ScoredCompletions,
) -> Selection:
    """Return the selection with its acceptance and what is known from the reply."""
    if config.response_schema:
        require_match(selection, config.response_schema)
    # Calibrated thresholds hold for a number of completions; here all of the reply count.
    selection = with_acceptance(
        selection,
        config,
        n=len(selection.candidates),
        messages=question.messages,
        out_of_distribution=scored.scores.out_of_distribution,
    )
    judging = selection.verification
    return replace(
        selection,
        usage=reply.usage if judging is None else reply.usage + judging.usage,
        cost=None,
        provider=provider,
        model=reply.model,
        notes=(*reply.notes, *selection.notes),
    )


def read_reply(
    reply: Any, codec: str, *, top_logprobs: int | None = None, token_ids: bool = False, strict: bool = False
) -> Reply:
    """Decode a reply of any form, with the codec of this name if its bytes do not show their format.

    Completions keep their indices, which settle ties, and have no usage.
    """
    is_decoded = isinstance(reply, (list, tuple)) and all(isinstance(item, Completion) for item in reply)
    data = reply if is_decoded else normalize_reply(reply)
    if isinstance(data, bytes):
        return detect.parse(data, top_logprobs=top_logprobs, token_ids=token_ids, default_codec=codec, strict=strict)
    return Reply(completions=tuple(data), usage=Usage())


def resolve_format(provider: str | Provider) -> Provider:
    """Return the provider whose wire format a reply has; the model does not matter for that."""
    if isinstance(provider, str):
        provider = re.split("[/:]", provider, maxsplit=1)[0]
    return resolve(provider, model="any")[0]


def model_in_name(provider: str | Provider) -> str | None:
    """Return the model in a name such as "openai/gpt-4.1-mini"; None if there is none."""
    is_complete = isinstance(provider, str) and re.search("[/:]", provider)
    return resolve(provider)[1] if is_complete else None

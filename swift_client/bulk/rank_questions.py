"""The choice for one stored question: its samples, or a reply to it. It equals what ``rank()`` chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swift_client.adapters import Reply
from swift_client.bulk.ranked_row import RankedRow, rank_or_explain
from swift_client.bulk.settings import RankSettings
from swift_client.dataset.sample_columns.groups import sort_samples
from swift_client.errors import ConfigurationError
from swift_client.reranker.rank_replies import RankedQuestion, rank_decoded, read_reply
from swift_client.store import Sample, StoredQuestion
from swift_client.types import Message, Usage


def rank_samples(
    question: StoredQuestion, samples: Sequence[Sample], settings: RankSettings, *, provider: str, model: str | None
) -> RankedRow:
    """Choose among the samples of a question, as ``rank([...], provider="PROVIDER/MODEL")`` does.

    Args:
        question: the question.
        samples: its samples, in any order.
        settings: the rules.
        provider: name of the provider of the samples.
        model: name of the model of the samples, if it is known.
    """

    def rank() -> RankedRow:
        try:
            ordered = sort_samples(samples)
        except ValueError as error:
            raise ConfigurationError(
                f"The samples cannot be told apart: {error}.", hint="Remove one of them."
            ) from error
        indices = [sample.index for sample in ordered]
        reply = Reply(completions=tuple(sample.completion for sample in ordered), usage=Usage())
        config = settings.config_for(provider, model)
        ranked_question = RankedQuestion(messages=question.messages)
        return RankedRow.of_selection(question.id, rank_decoded(reply, provider, config, ranked_question), indices)

    return rank_or_explain(question.id, rank)


def rank_reply(
    question: str | None, reply: Any, settings: RankSettings, prompt: str | Sequence[Message] | None = None
) -> RankedRow:
    """Choose among the completions of a reply, as ``rank(reply, prompt=prompt)`` does.

    Args:
        question: the question's id, if there is one.
        reply: a raw reply, or several in a list, as ``rank()`` takes them.
        settings: the rules.
        prompt: the question, if it is known.
    """

    def rank() -> RankedRow:
        ranked_question = RankedQuestion.create(prompt, None)
        reads_ids = settings.has_head or settings.config.reads_token_ids
        decoded = read_reply(reply, settings.codec, token_ids=reads_ids)
        config = settings.config_for(settings.provider, settings.model or decoded.model)
        return RankedRow.of_selection(question, rank_decoded(decoded, settings.provider, config, ranked_question))

    return rank_or_explain(question, rank)

"""The part of ``rank`` that chooses among the completions of replies to one question."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, BinaryIO

from swift_client.cli import options, progress
from swift_client.errors import ConfigurationError

if TYPE_CHECKING:
    from swift_client.types import Method, Selection
    from swift_client.verify.judge import Judge
    from swift_client.verify.verifier import Verifier


def rank_question(
    file: BinaryIO,
    *,
    provider: str,
    model: str | None,
    head: str,
    prompt: str | None,
    scorer: str,
    answer: str,
    select: Method,
    similarity: str | None,
    verifier: Verifier | None,
    reference: str | None,
    verifier_base_url: str | None,
) -> Selection:
    """Return the choice; arguments as of the command.

    Raises:
        ConfigurationError: an argument is wrong.
        SwiftClientError: the replies cannot be read, or the verifier fails.
    """
    from swift_client.adapters import resolve
    from swift_client.models.resolve_head import find_for_model, load_named
    from swift_client.reranker.rank_replies import RankedQuestion, rank_reply, rank_reply_verified
    from swift_client.selection.select import FALLBACK_SCORER, SelectionConfig

    row, _ = resolve(provider, model or "any")
    # Find the head first: a head that does not exist is reported before the replies are read.
    if head == "auto":
        resolved = find_for_model(row.name, model or row.default_model)
    else:
        resolved = load_named(options.parse_none(head))
    if resolved.artifact and scorer != "auto":
        raise ConfigurationError("--head and --scorer cannot be combined.", hint="Give only one of them.")
    config = SelectionConfig(
        scorer=resolved.artifact or (FALLBACK_SCORER if scorer == "auto" else scorer),
        answer=options.parse_none(answer),
        select=select,
        similarity=similarity,
        force_head=resolved.force_head,
        notes=resolved.notes,
    )
    question = RankedQuestion.create(prompt, reference)
    if verifier is None:
        if verifier_base_url is not None:
            raise ConfigurationError(
                "verifier_base_url= is the address of a judge.", hint="Name the judge by verifier=."
            )
        return rank_reply(file.read(), row, config, question)
    judge = _connect_judge(verifier.judge, verifier_base_url)

    async def rank_and_close() -> Selection:
        try:
            return await rank_reply_verified(file.read(), row, config, question, verifier, judge)
        finally:
            await judge.model.transports.aclose()

    with progress.show_status(f"{verifier.judge} judges the answers …"):
        return asyncio.run(rank_and_close())


def _connect_judge(name: object, base_url: str | None) -> Judge:
    from swift_client.reranker import AsyncSwiftReranker
    from swift_client.verify.connect_judge import connect_judge

    if base_url is None or name == "self":
        return connect_judge(name)
    return connect_judge(AsyncSwiftReranker(str(name), base_url=base_url, head=None))

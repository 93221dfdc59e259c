"""How much an external scorer should count beside ours: learned on questions that the head was not fitted to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import numpy as np

from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.stored import StoredGroups, state_options
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import PARTS, get_split
from swift_client.features.segments import F64
from swift_client.models import AnyHead
from swift_client.models.resolve_head import load_any_head
from swift_client.reranker.sync_loop import BackgroundLoop
from swift_client.scoring.fusion import learn_share
from swift_client.scoring.judge import JudgeFunction, JudgeScores, call_judge
from swift_client.scoring.scorers import score
from swift_client.store import SampleStore
from swift_client.types import Completion, Message

MAX_CONCURRENCY = 4
"""Questions that the external scorer reads at the same time."""


def learn_fuse(
    samples: str | os.PathLike[str],
    external: JudgeFunction,
    head: str | os.PathLike[str] | AnyHead | None = None,
    *,
    split: str = "validation",
    grade: GraderSpec = "auto",
    timeout: float = 60.0,
) -> str:
    """Return ``fuse=`` for ``SwiftReranker(external=...)``, such as "weighted:share=0.350": the share that is ours.

    It is the share with which the best answer is right most often on graded questions.

    Args:
        samples: a samples file.
        external: from (messages, completions) to N numbers, higher is better; sync or async.
        head: ours, or its file; None: the mean logprob.
        split: the part of the head's questions, "validation" or "test", or "all" for a file of unseen ones.
        grade: how completions without a label are compared with their question's answer.
        timeout: seconds that ``external`` may take for one question; where it fails the question does not count.

    Raises:
        ConfigurationError: there is no graded question, or ``external`` had an opinion on none.
    """
    if split not in (*PARTS, "all"):
        raise ConfigurationError(f"There is no split {split!r}.", hint="Use validation, test or all.")
    ours = load_any_head(head) if isinstance(head, (str, os.PathLike)) else head
    groups = StoredGroups([samples], grade=grade, **state_options(ours))
    parts, _ = get_split(ours)
    kept = [
        group
        for group in groups
        if split in (parts.part(group.question_id), "all") and not np.isnan(group.labels).all()
    ]
    with SampleStore(samples) as store:
        prompts = {question.id: question.messages for question in store.questions()}
    if not kept:
        raise ConfigurationError(
            f"There is no graded question in the part {split!r}.", hint='Grade them, or use split="all".'
        )
    heard = _score_externally(external, [(prompts[group.question_id], group.completions) for group in kept], timeout)
    known = [(group, said) for group, said in zip(kept, heard, strict=True) if isinstance(said, JudgeScores)]
    if not known:
        raise ConfigurationError(f"The external scorer had no opinion on {len(kept)} questions: {heard[0]}")
    share = learn_share(
        [_scores(group.completions, ours) for group, _ in known],
        [said.values.astype(np.float64) for _, said in known],
        [group.labels for group, _ in known],
    )
    return f"weighted:share={share:.3f}"


def _scores(completions: Sequence[Completion], head: AnyHead | None) -> F64:
    found: F64 = score(completions, "mean_logprob" if head is None else head).values.astype(np.float64)
    return found


def _score_externally(
    external: JudgeFunction, questions: Sequence[tuple[Sequence[Message], Sequence[Completion]]], timeout: float
) -> list[JudgeScores | str]:
    async def all_of_them() -> list[JudgeScores | str]:
        free = asyncio.Semaphore(MAX_CONCURRENCY)

        async def one(messages: Sequence[Message], completions: Sequence[Completion]) -> JudgeScores | str:
            async with free:
                return await call_judge(
                    external, "The external scorer", messages, completions, timeout=timeout, seconds_left=None
                )

        return list(await asyncio.gather(*(one(*question) for question in questions)))

    portal = BackgroundLoop()
    try:
        return portal.run(all_of_them)
    finally:
        portal.close()

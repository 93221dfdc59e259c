"""Weight of an external scorer beside a head, learned on questions that the head was not fitted to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import numpy as np

from swift_client.adapters.user_threads import UserThreads
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.stored import StoredGroups, state_options
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import check_split, get_split
from swift_client.models import AnyHead
from swift_client.models.resolve_head import load_any_head
from swift_client.sampling.sync_loop import BackgroundLoop
from swift_client.scoring.fusion import learn_share
from swift_client.scoring.judge import JudgeFunction, call_judge
from swift_client.scoring.result import Scores
from swift_client.scoring.scorers import score
from swift_client.types import Completion, Message

MAX_CONCURRENCY = 4  # questions that the external scorer reads in parallel


def learn_fuse(
    samples: str | os.PathLike[str],
    external: JudgeFunction,
    head: str | os.PathLike[str] | AnyHead | None = None,
    *,
    split: str = "validation",
    grade: GraderSpec = "auto",
    timeout: float = 60.0,
) -> str:
    """Return ``fuse=`` for ``SwiftReranker(external=...)``, such as "weighted:share=0.350".

    The share is the head's; with it the best answer is right most often on graded questions.

    Args:
        samples: a samples file.
        external: from (messages, completions) to N numbers, higher is better; sync or async.
        head: a head, or its file; None: the mean logprob.
        split: a part of the head's own split, or "all" for a file of unseen questions.
        grade: how completions without a label are compared with their question's answer.
        timeout: seconds of ``external`` per question; a question on which it fails does not count.

    Raises:
        ConfigurationError: there is no graded question, or ``external`` failed on all of them.
    """
    check_split(split)
    head = load_any_head(head) if isinstance(head, (str, os.PathLike)) else head
    groups = StoredGroups([samples], grade=grade, **state_options(head))
    parts, _ = get_split(head)
    graded = [
        group
        for group in groups
        if split in (parts.part(group.question_id), "all") and not np.isnan(group.labels).all()
    ]
    if not graded:
        raise ConfigurationError(
            f"There is no graded question in the part {split!r}.", hint='Grade them, or use split="all".'
        )
    questions = [(group.messages, group.completions) for group in graded]
    results = _score_externally(external, questions, timeout)
    scored = [(group, result) for group, result in zip(graded, results, strict=True) if isinstance(result, Scores)]
    if not scored:
        raise ConfigurationError(f"The external scorer gave no scores for any of {len(graded)} questions: {results[0]}")
    scorer = "mean_logprob" if head is None else head
    share = learn_share(
        [score(group.completions, scorer).values.astype(np.float64) for group, _ in scored],
        [result.values.astype(np.float64) for _, result in scored],
        [group.labels for group, _ in scored],
    )
    return f"weighted:share={share:.3f}"


def _score_externally(
    external: JudgeFunction, questions: Sequence[tuple[Sequence[Message], Sequence[Completion]]], timeout: float
) -> list[Scores | str]:
    """Return the scores of each question, or the reason why there are none."""

    async def score_all() -> list[Scores | str]:
        semaphore, threads = asyncio.Semaphore(MAX_CONCURRENCY), UserThreads()

        async def score_question(messages: Sequence[Message], completions: Sequence[Completion]) -> Scores | str:
            async with semaphore:
                return await call_judge(
                    external,
                    "The external scorer",
                    messages,
                    completions,
                    threads=threads,
                    timeout=timeout,
                    seconds_left=None,
                )

        return list(await asyncio.gather(*(score_question(*question) for question in questions)))

    loop = BackgroundLoop()
    try:
        return loop.run(score_all)
    finally:
        loop.close()

"""The judgement of one answer, without sampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swift_client.errors import ConfigurationError, VerificationError
from swift_client.types import Message
from swift_client.verify.connect_judge import connect_judge
from swift_client.verify.judge import JudgeSession
from swift_client.verify.modes import MODES, JudgingTask
from swift_client.verify.prompts import Criteria


async def score_answer(
    judge: object, mode: str, question: Sequence[Message], text: str, *, criteria: Criteria, reference: str | None
) -> float:
    """Return the judgement of ``text``, 0..1; arguments as of ``Verifier``, errors as of ``Verifier.score()``."""
    mode = "p_true" if mode == "auto" else mode
    if mode == "pairwise":
        raise ConfigurationError(
            'The mode "pairwise" compares answers, and there is only one.', hint='Use mode="p_true" or "score".'
        )
    connected = connect_judge(judge)
    task = JudgingTask(
        question=question,
        answers=[text],
        log_weights=np.zeros(1),
        criteria=criteria,
        reference=reference,
    )
    session = JudgeSession(connected, budget=None, deadline=None, deadline_at=None)
    try:
        (judgement,) = await MODES[mode].judge(session, task)
    finally:
        if not connected.is_borrowed:  # its connections were opened for this answer alone
            await connected.model.transports.aclose()
    if judgement is None:
        causes = [failure.error for failure in session.failures]
        first = causes[0].message if causes else "Nothing was sent."
        raise VerificationError(f"{connected.name} brought no judgement. {first}", causes=causes)
    return judgement

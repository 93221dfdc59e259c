"""Runs inside a peer's own environment: JSON jobs on stdin, their results in the same order as JSON on stdout.

It imports nothing of ours, so that a peer is measured with its own dependencies.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

BOXED = r"\\boxed\{([^}]+)\}"  # the pattern of its_hub's own documentation


def grade_with_math_verify(job: dict[str, Any]) -> list[bool]:
    """Grade ``texts`` against their ``references``."""
    from math_verify import parse, verify

    verdicts = []
    for text, references in zip(job["texts"], job["references"], strict=True):
        answer = parse(text)
        verdicts.append(any(verify(parse(reference), answer) for reference in references))
    return verdicts


def vote_with_its_hub(job: dict[str, Any]) -> dict[str, list[int]]:
    """Return the index that self-consistency selects per question, by whole texts and by boxes."""
    from its_hub.api import AbstractLanguageModel
    from its_hub.core.algorithms.self_consistency import SelfConsistency, create_regex_projection_function

    class RecordedModel(AbstractLanguageModel):
        """Gives the recorded texts in turn."""

        def __init__(self, texts: list[str]) -> None:
            self.texts = iter(texts)

        async def agenerate(self, messages: Any, stop: str | None = None, **kwargs: Any) -> Any:
            return {"role": "assistant", "content": next(self.texts)}

        async def agenerate_single(self, messages: Any, stop: str | None = None, **kwargs: Any) -> Any:
            return await self.agenerate(messages)

    random.seed(0)  # it draws among equally frequent answers
    selected = {}
    for name, projection in (
        ("its_hub, whole texts", None),
        ("its_hub, boxed", create_regex_projection_function(BOXED)),
    ):
        algorithm = SelfConsistency(projection)
        selected[name] = [
            asyncio.run(
                algorithm.ainfer(RecordedModel(texts), "question", len(texts), return_response_only=False)
            ).selected_index
            for texts in job["questions"]
        ]
    return selected


def vote_with_scorio(job: dict[str, Any]) -> dict[str, list[int]]:
    """Return the index that each rule selects per question, from our groups and the completions' scores."""
    from scorio import aggregate

    selected = {"scorio, majority": [aggregate.majority_vote(groups, return_index=True)[1] for groups in job["groups"]]}
    rules = {
        "weighted": aggregate.weighted_majority_vote,
        "softmax": aggregate.softmax_weighted_vote,
        "rank": aggregate.rank_weighted_vote,
    }
    for name, rule in rules.items() if job["scores"] else ():
        selected[f"scorio, {name}"] = [
            rule(groups, scores, return_index=True)[1]
            for groups, scores in zip(job["groups"], job["scores"], strict=True)
        ]
    return {name: [int(index) for index in indices] for name, indices in selected.items()}


JOBS = {"math-verify": grade_with_math_verify, "its_hub": vote_with_its_hub, "scorio": vote_with_scorio}

if __name__ == "__main__":
    received = json.load(sys.stdin)
    json.dump([JOBS[received["peer"]](job) for job in received["jobs"]], sys.stdout)

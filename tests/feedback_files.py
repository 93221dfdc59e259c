"""Samples files of a service's past: choices with known truth, and feedback on some of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from swift_client.dataset.question_samples import Group
from swift_client.reranker.acceptance import with_acceptance
from swift_client.reranker.feedback import selection_facts
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.store import Meta, SelectionStore, StoredQuestion
from swift_client.types import Selection, Usage


def write_choices(
    path: Path,
    groups: Sequence[Group],
    config: SelectionConfig,
    *,
    chance: Callable[[Selection], float],
    seed: int = 0,
    provider: str = "p",
    model: str = "m",
    overlook_rate: float = 0.0,
) -> float:
    """Write each question with its choice, and feedback with probability ``chance``; return the share of right choices.

    Labels of the groups are the truth and are not written. People call ``overlook_rate`` of the wrong answers right.
    """
    rng = np.random.default_rng(seed)
    right = []
    with SelectionStore(path, write=True) as store:
        store.postpone_sync()
        store.begin(Meta(provider=provider, model=model, top_logprobs=20))
        for number, group in enumerate(groups):
            messages = group.messages or ({"role": "user", "content": group.question_id},)
            store.add_questions([StoredQuestion(id=group.question_id, messages=messages)])
            store.add_samples(group.question_id, list(group.completions), usage=Usage())
            selection = select_best(group.completions, config)
            selection = with_acceptance(selection, config, n=len(group.completions), messages=messages)
            completions = [candidate.completion for candidate in selection.candidates]
            store.add_selection(
                f"s{number}", selection_facts(selection), completions, question_id=group.question_id, prompt=""
            )
            right.append(group.labels[selection.winner] == 1)
            if rng.random() < chance(selection):
                store.set_feedback(f"s{number}", bool(right[-1] or rng.random() < overlook_rate))
    return float(np.mean(right))

"""Answers of both models under every condition, drawn by llama.cpp and kept in a folder."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.drift_parts.conditions import GRADERS, MAX_TOKENS, TEMPERATURE, Condition, ModelName
from benchmarks.drift_parts.weights import write_changed
from swift_client.pocket import smollm2, weights
from swift_client.pocket.server import PocketServer
from swift_client.store import StoredQuestion
from swift_client.training import Group, StoredGroups, collect
from swift_client.types import Completion

# Completions decoded at once. Few-shot prompts take longer than SmolLM2's answers: there one question is asked at a
# time, family by family, so that the next one finds the examples in the server's cache.
_SLOTS = {"pocket": 16, "smollm2": 8}


def draw(
    model: ModelName, condition: Condition, questions: Sequence[StoredQuestion], n: int, folder: Path, seed: int
) -> list[Group]:
    """Return graded answers, ``n`` per question, and draw those that ``folder`` lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{model}_{condition.file}.db"
    ids = {question.id for question in questions}
    complete = out.exists() and ids <= {group.question_id for group in _read(model, out) if len(group.completions) >= n}
    if not complete:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as temporary:
            _collect(model, condition, questions, n, out, _weights(model, condition, Path(temporary)), seed)
        print(f"{model}, {condition.file}: drawn in {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    groups = {group.question_id: _changed(group, condition) for group in _read(model, out)}
    return [groups[question.id] for question in questions]


def _read(model: ModelName, path: Path) -> StoredGroups:
    return StoredGroups([path], grade=GRADERS[model])


def _weights(model: ModelName, condition: Condition, folder: Path) -> Path:
    """Return the file that is served, changed if the condition says so."""
    source = weights.find_weights() if model == "pocket" else smollm2.find_weights()
    if condition.quantization is None and condition.template is None:
        return source
    target = folder / "changed.gguf"
    write_changed(source, target, quantization=condition.quantization, template=condition.template)
    return target


def _collect(
    model: ModelName,
    condition: Condition,
    questions: Sequence[StoredQuestion],
    n: int,
    out: Path,
    served: Path,
    seed: int,
) -> None:
    slots = _SLOTS[model]
    with PocketServer(served, slots=slots, threads=1) as server:
        collect(
            sorted(questions, key=lambda question: question.family or ""),
            out,
            provider=model,
            base_url=server.base_url,
            n=n,
            seed=seed,
            concurrency=max(1, slots // n) if model == "pocket" else 1,
            timeout=600.0,
            **{"temperature": TEMPERATURE, "max_tokens": MAX_TOKENS[model], "cache_prompt": model == "smollm2"}
            | condition.sampling,
        )


def _changed(group: Group, condition: Condition) -> Group:
    """Return the group with what its condition leaves of the logprobs."""
    if condition.keep_ranks is None and condition.decimals is None:
        return group
    return replace(group, completions=tuple(reduced(completion, condition) for completion in group.completions))


def reduced(completion: Completion, condition: Condition) -> Completion:
    """Return the completion with the alternatives and decimals that the condition leaves."""
    top, logprobs = completion.top_logprobs[:, : condition.keep_ranks], completion.logprobs
    ids = None if completion.top_ids is None else completion.top_ids[:, : condition.keep_ranks]
    if condition.decimals is not None:
        top, logprobs = np.round(top, condition.decimals), np.round(logprobs, condition.decimals)
    return replace(completion, top_logprobs=top, logprobs=logprobs, top_ids=ids)

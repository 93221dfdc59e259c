"""Other packages on the same completions: math-verify's verdicts, its_hub's vote, scorio's rules on our groups.

Each runs in an environment of its own with pinned versions. If it cannot be made, the result is the reason as one line.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peer_environments import PeerUnavailableError, environment_python
from benchmarks.reading.sets import Recorded, RecordedQuestion, SetResult, SetRow, Vote

WORKER = Path(__file__).with_name("peer_worker.py")
PINS: Mapping[str, tuple[str, ...]] = {
    "math-verify": ("math-verify[antlr4_13_2]==0.9.0", "latex2sympy2_extended==1.11.0", "sympy==1.14.0"),
    "its_hub": ("its_hub==1.2.0",),
    "scorio": ("scorio==0.2.3",),
}
WORK_SECONDS = 900


def ask_peer(peer: str, cache: Path, jobs: Sequence[dict[str, Any]]) -> list[Any]:
    """Return what the worker of a peer answers to each job, all in one process.

    Raises:
        PeerUnavailableError: it cannot be installed, or fails.
    """
    python = environment_python(peer, PINS[peer], cache)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        finished = subprocess.run(
            [str(python), str(WORKER)],
            input=json.dumps({"peer": peer, "jobs": jobs}),
            capture_output=True,
            text=True,
            check=True,
            timeout=WORK_SECONDS,
            env=environment,
        )
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or str(error)).strip().splitlines()
        raise PeerUnavailableError(f"failed: {lines[-1][:200]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerUnavailableError(f"failed: {error}") from error
    answers: list[Any] = json.loads(finished.stdout)
    return answers


def sample_questions(questions: Sequence[RecordedQuestion], limit: int) -> list[RecordedQuestion]:
    """Return evenly spaced questions with about ``limit`` completions in all."""
    per_question = max(1.0, sum(len(question.completions) for question in questions) / max(1, len(questions)))
    step = max(1.0, len(questions) * per_question / limit)
    places = (int(step * number) for number in range(len(questions)))
    return [questions[place] for place in places if place < len(questions)]


Graded = list[tuple[RecordedQuestion, Recorded, bool]]  # with the right label


def grade_job(result: SetResult, limit: int) -> tuple[Graded, dict[str, Any]]:
    """Return the completions that math-verify grades, and its job."""
    questions = sample_questions([question for question in result.questions if question.references], limit)
    graded = [
        (question, entry, label)
        for question in questions
        for entry in question.completions
        if (label := result.labels[question.id, entry.index]) is not None
    ]
    references = [[str(reference) for reference in question.references] for question, _, _ in graded]
    return graded, {"texts": [entry.text for _, entry, _ in graded], "references": references}


def compare_grades(results: Sequence[SetResult], limit: int, cache: Path) -> None:
    """Fill in math-verify's agreement, and ours on the completions that it graded."""
    pairs = [grade_job(result, limit) for result in results]
    try:
        verdicts_by_set = ask_peer("math-verify", cache, [job for _, job in pairs])
    except PeerUnavailableError as error:
        for result in results:
            result.peers["math-verify"] = str(error)
        return
    for result, (graded, _), verdicts in zip(results, pairs, verdicts_by_set, strict=True):
        hits = [verdict == label for verdict, (_, _, label) in zip(verdicts, graded, strict=True)]
        ours = [result.verdicts[question.id, entry.index] == label for question, entry, label in graded]
        result.peers["math-verify"] = {
            "n": len(graded),
            "agreement": sum(hits) / len(hits),
            "ours": sum(ours) / len(ours),
        }


def vote_job(peer: str, votes: Sequence[Vote]) -> dict[str, Any]:
    """Return the job of a peer that votes."""
    if peer == "its_hub":
        return {"questions": [vote.texts for vote in votes]}
    scores = [vote.scores for vote in votes]
    have_scores = all(None not in row for row in scores)
    return {"groups": [vote.groups for vote in votes], "scores": scores if have_scores else None}


def compare_votes(peer: str, results: Sequence[SetResult], cache: Path) -> None:
    """Fill in the accuracy of a peer's votes."""
    try:
        selected_by_set = ask_peer(peer, cache, [vote_job(peer, result.votes) for result in results])
    except PeerUnavailableError as error:
        for result in results:
            result.peers[peer] = str(error)
        return
    for result, selected in zip(results, selected_by_set, strict=True):
        for name, indices in selected.items():
            result.vote_accuracy[name] = accuracy_of(result.votes, indices)


def accuracy_of(votes: Sequence[Vote], indices: Sequence[int]) -> float:
    """Return the share of questions whose selected completion is right; -1 (no answer) selects the first."""
    return sum(bool(vote.labels[max(0, index)]) for vote, index in zip(votes, indices, strict=True)) / len(votes)


def measure_peers(results: Sequence[SetResult], limit: int, cache: Path) -> None:
    """Run all peers on all sets, in two processes at a time."""
    graded = [result for result in results if result.agreement and is_about_values(result.row)]
    voted = [result for result in results if result.votes]
    installed = []
    for peer in PINS:  # one at a time, before two threads want the same environment
        try:
            environment_python(peer, PINS[peer], cache)
            installed.append(peer)
        except PeerUnavailableError as error:
            for result in results:
                result.peers[peer] = str(error)
    tasks = [
        partial(compare_votes, peer, voted, cache) for peer in ("its_hub", "scorio") if peer in installed and voted
    ]
    if "math-verify" in installed:
        tasks += [partial(compare_grades, half, limit, cache) for half in (graded[::2], graded[1::2]) if half]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda task: task(), tasks))


def is_about_values(row: SetRow) -> bool:
    """Return whether math-verify can be expected to grade the set: not letters, words or yes and no."""
    return row.compares == "numbers"

"""Memory of ``evaluate`` on samples files of different sizes.

Two files, one of a tenth of the questions, each evaluated in a process of its own: without a head and without training,
on all questions. A question has 2 completions of 2 tokens with 2 alternatives each, since what ``evaluate`` remembers
of a question does not depend on its tokens. Memory is the highest resident memory of the process (Linux).
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from swift_client.evaluation.evaluate import evaluate
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.types import Completion, Usage

N, TOKENS, RANKS = 2, 2, 2
_DISTINCT = 500  # questions that differ; the others are copies under other ids


def write_samples(path: Path, questions: int) -> None:
    """Write a samples file of so many labelled questions, rounded up to a multiple of 500."""
    rng = np.random.default_rng(0)
    with SampleStore(path, write=True) as store:
        store.postpone_sync()
        store.begin(Meta(provider="openai", model="m", top_logprobs=RANKS))
        for number in range(_DISTINCT):
            name = f"q{number}"
            store.add_questions([StoredQuestion(id=name, messages=({"role": "user", "content": f"{number}?"},))])
            answers = rng.integers(3, size=N).tolist()
            completions = [_completion(rng, index, answer) for index, answer in enumerate(answers)]
            store.add_samples(name, completions, usage=Usage(calls=1))
            store.set_labels({(name, index): float(answer == 0) for index, answer in enumerate(answers)})
    connection = sqlite3.connect(path)
    with connection:
        for copy in range(1, -(-questions // _DISTINCT)):
            connection.execute(
                "INSERT INTO question SELECT id || '-' || ?, messages, answer, family FROM question WHERE rowid <= ?",
                (copy, _DISTINCT),
            )
            connection.execute(
                "INSERT INTO sample SELECT question || '-' || ?, number, reply, text, finish_reason, arrays, label "
                "FROM sample WHERE rowid <= ?",
                (copy, _DISTINCT * N),
            )
    connection.close()


def _completion(rng: np.random.Generator, index: int, answer: int) -> Completion:
    top = -np.sort(rng.exponential(size=(TOKENS, RANKS)).astype(np.float32), axis=1)
    return Completion(
        text=f"The answer is {answer}.",
        index=index,
        tokens=("a",) * TOKENS,
        logprobs=top[:, 0].copy(),
        top_logprobs=top,
        censored=np.zeros(TOKENS, np.bool_),
    )


def measure_evaluation(questions: int = 200_000) -> dict[str, Any]:
    """Return the bar of the memory's growth from a tenth of the questions to all, and both runs."""
    runs = []
    for count in (questions // 10, questions):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "samples.db"
            write_samples(path, count)
            command = [sys.executable, __file__, str(path)]
            result = subprocess.run(command, check=True, capture_output=True, text=True)
            runs.append(json.loads(result.stdout))
    small, large = (run["memory_mb"] for run in runs)
    bar = {
        "value": round(large / small - 1, 4),
        "target": 0.1,
        "unit": f"share of {small:.0f} MB, from {runs[0]['questions']:,} to {runs[1]['questions']:,} questions",
        "interval": None,
    }
    return {"bars": {"evaluate_memory_growth": bar}, "details": {"runs": runs}}


def _evaluate(path: str) -> dict[str, Any]:
    """Evaluate a file in this process."""
    start, cpu_start = time.perf_counter(), time.process_time()
    evaluation = evaluate(None, path, split="all", ns=(1, 2), trained=False)
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return {
        "questions": evaluation.questions,
        "memory_mb": int(peak.split()[1]) / 1000,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_ms_per_question": round(1000 * (time.process_time() - cpu_start) / evaluation.questions, 3),
    }


if __name__ == "__main__":
    print(json.dumps(_evaluate(sys.argv[1])))

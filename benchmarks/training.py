"""The cost of training: seconds, peak memory and disk, from a samples file to a calibrated head.

    python benchmarks/training.py [--json] [--questions 1000 2000 4000 6000] [--replies 8]

The replies are drawn, not recorded: 300 to 500 tokens with 20 alternatives and their identities, as ``collect`` keeps
them; wrong answers hesitate on a few more tokens. One samples file grows from size to size, and at each size the
default recipe trains in a process of its own: it reads the file, grades each reply, computes the features, trains to
the end, calibrates, judges and saves. All of that is counted from the start of the process to its end; drawing is
shown beside it. Where validation completions are few, further heads are trained to judge the first one (column
"heads"), so that a question costs more in small files than in large ones; the growth of what it costs, largest size
over smallest, is told for reading alone too. Peak memory is what the process had resident at most, and the features'
file, which the kernel maps in and may drop again at any time, counts; "own" is the part that it may not drop. GB are
10^9 bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.types import Completion, Usage

K = 20
WORDS = tuple(f" word{number}" for number in range(4000))
IDENTITIES = (np.arange(len(WORDS)) * 2654435761 % 2**32).astype(np.uint32)


def draw_question(number: int, replies: int) -> tuple[StoredQuestion, list[Completion]]:
    """Draw one question and its replies, the same in every run."""
    draw = np.random.default_rng(number)
    right = int(draw.integers(10, 1000))
    chance, hardness = np.clip(draw.normal(0.55, 0.2), 0.05, 0.95), draw.normal(0, 0.4)
    completions = []
    for index in range(replies):
        correct = draw.random() < chance
        tokens = int(draw.integers(300, 501))
        logits = draw.gumbel(size=(tokens, K)).astype(np.float32) * 2.0
        hesitates = draw.random(tokens) < 0.2 + (0.0 if correct else draw.normal(0.02, 0.01))
        logits[:, 0] += 9.0 - hesitates * (7.0 + hardness)
        top = -np.sort(-(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True) * 1.001)), axis=1)
        rank = np.where(draw.random(tokens) < 0.9, 0, draw.integers(0, K, tokens))
        words = np.minimum(draw.zipf(1.2, (tokens, K)), len(WORDS)) - 1
        names = tuple(WORDS[word] for word in words[np.arange(tokens), rank].tolist())
        answer = right if correct else right + int(draw.integers(1, 4))
        completions.append(
            Completion(
                text=f"{''.join(names)} The answer is {answer}.",
                index=index,
                finish_reason="stop",
                tokens=names,
                logprobs=top[np.arange(tokens), rank],
                top_logprobs=top,
                censored=np.zeros(tokens, np.bool_),
                top_ids=IDENTITIES[words],
            )
        )
    messages = ({"role": "user", "content": f"Question {number}?"},)
    return StoredQuestion(id=f"q{number}", messages=messages, answer=str(right)), completions


def grow(path: Path, start: int, end: int, replies: int) -> None:
    """Add the questions ``start`` to ``end`` to the samples file."""
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="openai", model="drawn", top_logprobs=K))
        for number in range(start, end):
            question, completions = draw_question(number, replies)
            store.add_questions([question])
            tokens = sum(len(completion.tokens) for completion in completions)
            store.add_samples(
                question.id, completions, usage=Usage(prompt_tokens=12, completion_tokens=tokens, calls=1)
            )


def train(samples: Path, head: Path, device: str) -> dict[str, Any]:
    """Train in this process as ``swift-client train`` does, and return the seconds of each step."""
    from swift_client.dataset.stored import StoredGroups
    from swift_client.models import save
    from swift_client.training.fit import fit

    start = last = time.perf_counter()
    spent, epochs, own = {"questions": 0.0, "epochs": 0.0}, 0, 0.0
    free = [shutil.disk_usage(tempfile.gettempdir()).free]

    def progress(stage: str, done: int) -> None:
        nonlocal epochs, last, own
        now = time.perf_counter()
        spent[stage], last = spent[stage] + now - last, now
        epochs += stage == "epochs"
        if stage == "epochs" or done % 50 == 0:
            own = max(own, resident("RssAnon"))
            free.append(shutil.disk_usage(tempfile.gettempdir()).free)

    groups = StoredGroups([samples], grade="number")
    facts = {"provider": groups.provider, "model": groups.model}
    result = fit(groups, **facts, answer="number", device=device, progress=progress)
    save(result.artifact, head)
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "read_seconds": spent["questions"],
        "descent_seconds": spent["epochs"],
        "rest_seconds": time.perf_counter() - start - sum(spent.values()),
        "heads": 1 + result.artifact.training["folds"] * (result.artifact.training["folds"] > 1),
        "epochs": epochs,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9,
        "own_memory_gb": own,
        "disk_gb": (free[0] - min(free)) / 1e9,
        "within_question_auroc": result.metrics["within_question_auroc"],
        "verdict": result.verdict,
    }


def resident(field: str) -> float:
    """Return a size from /proc/self/status in GB, or 0 if it has none."""
    if sys.platform != "linux":
        return 0.0
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e9


def measured(samples: Path, head: Path, device: str) -> dict[str, Any]:
    """Run :func:`train` in a process of its own and add its wall-clock seconds."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "--train", str(samples), str(head), device]
    facts: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return {"seconds": time.perf_counter() - start, **facts}


def yardstick() -> float:
    """Return wall-clock over processor seconds of plain work: 1 on an idle machine."""
    wall, cpu = time.perf_counter(), time.process_time()
    sum(number & 7 for number in range(10_000_000))
    return (time.perf_counter() - wall) / (time.process_time() - cpu)


def measure(sizes: list[int], replies: int) -> list[dict[str, Any]]:
    """Draw and train at each size, smallest first; repeat the largest on a GPU if there is one."""
    rows, n_written, drawing = [], 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        samples, head = Path(folder) / "samples.db", Path(folder) / "head.safetensors"
        for size in sorted(sizes):
            start = time.perf_counter()
            grow(samples, n_written, size, replies)
            n_written, drawing = size, drawing + time.perf_counter() - start
            for device in ["cpu", *(["cuda"] if size == max(sizes) and has_gpu() else [])]:
                busy = yardstick()
                row = measured(samples, head, device)
                facts = {"drawing_seconds": drawing, "samples_gb": samples.stat().st_size / 1e9, "load": busy}
                rows.append({"questions": size, "replies": size * replies, "device": device, **row, **facts})
                print(f"{size} questions on {device}: {row['seconds']:.0f} s", file=sys.stderr)
    return rows


def has_gpu() -> bool:
    """Return whether torch sees a GPU. Another process checks, which keeps this one small."""
    command = [sys.executable, "-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"]
    return subprocess.run(command).returncode == 0


def bars_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each bar with its value; all are upper bounds."""
    on_cpu = [row for row in rows if row["device"] == "cpu"]
    first, last = on_cpu[0], on_cpu[-1]

    def growth(name: str) -> float:
        return float((last[name] / last["questions"]) / (first[name] / first["questions"]))

    values = (
        ("train_minutes", last["seconds"] / 60, 10, "min"),
        ("peak_memory_gb", max(row["peak_memory_gb"] for row in on_cpu), 6, "GB"),
        ("growth_of_seconds_a_question", growth("seconds"), 1.1, "x"),
        ("growth_of_reading_a_question", growth("read_seconds"), 1.1, "x"),
    )
    return {
        name: {"value": round(value, 3), "target": target, "unit": unit, "interval": None}
        for name, value, target, unit in values
    }


def main() -> None:
    """Measure, then print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--questions", type=int, nargs="+", default=[1000, 2000, 4000, 6000])
    parser.add_argument("--replies", type=int, default=8)
    parser.add_argument("--train", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        samples, head, device = options.train
        print(json.dumps(train(Path(samples), Path(head), device)))
        return
    rows = measure(options.questions, options.replies)
    bars = bars_of(rows)
    if options.json:
        print(json.dumps({"bars": bars, "cores": os.cpu_count(), "sizes": rows}, indent=2))
        return
    for name, bar in bars.items():
        verdict = "ok" if bar["value"] <= bar["target"] else "MISSED"
        print(f"{name:30} {bar['value']:>8.3f} {bar['unit']:4} bar {bar['target']:<4} {verdict}")
    print(f"\n{os.cpu_count()} cores; load: wall-clock over processor seconds of plain work just before")
    columns = (
        ("questions", "d"), ("replies", "d"), ("device", "s"), ("seconds", ".1f"), ("read_seconds", ".1f"),
        ("descent_seconds", ".1f"), ("rest_seconds", ".1f"), ("heads", "d"), ("epochs", "d"), ("peak_memory_gb", ".2f"),
        ("own_memory_gb", ".2f"), ("disk_gb", ".2f"), ("samples_gb", ".2f"), ("drawing_seconds", ".1f"),
        ("load", ".2f"),
    )  # fmt: skip
    print("  ".join(name for name, _ in columns))
    for row in rows:
        print("  ".join(f"{row[name]:>{len(name)}{form}}" for name, form in columns))


if __name__ == "__main__":
    main()

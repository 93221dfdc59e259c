"""Choose among programs by what they do: those that agree on the inputs of a test form a consensus. No request is sent.

python examples/code_consensus.py

WARNING: this runs code that a model wrote, with your rights. The time limit stops endless loops and nothing else: run
untrusted code only in a container or virtual machine without network, files and keys.
"""

import json
import subprocess
import sys
import tempfile

import numpy as np

from swift_client import Completion, rank

INPUTS = ([1, 3, 2], [], [5, 5, 1])
RUNNER = """
import json, sys
source, inputs = json.load(sys.stdin)
names = {}
exec(source, names)
print(json.dumps([names["largest"](numbers) for numbers in inputs]))
"""


def run(source: str) -> str | None:
    """Return what the function returns for all inputs, as JSON; None if it fails or takes too long."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            process = subprocess.run(  # noqa: S603  # see the warning
                [sys.executable, "-I", "-c", RUNNER],
                input=json.dumps([source, INPUTS]), capture_output=True, text=True, timeout=5, cwd=folder, env={},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
    return process.stdout if process.returncode == 0 else None


def same_results(sources: list[str]) -> np.ndarray:
    """Return 1 for programs with the same results, else 0; one that fails is not even like itself."""
    results = [run(source) for source in sources]
    return np.array([[float(one is not None and one == other) for other in results] for one in results])


programs = [
    "def largest(numbers): return sorted(numbers)[-1]",  # fails for an empty list
    "def largest(numbers): return max(numbers, default=None)",
    "def largest(numbers):\n    while True: pass",
    "def largest(numbers):\n    return sorted(numbers)[-1] if numbers else None",
    "def largest(numbers): return numbers[0] if numbers else None",
]
replies = [Completion(text=source, index=index) for index, source in enumerate(programs)]

selection = rank(replies, select="consensus", similarity=same_results)
for candidate in selection.candidates:
    print(f"{candidate.consensus:.1f}  {candidate.text!r}")
print("chosen:", selection.winner)

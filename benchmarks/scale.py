"""Many questions on one machine, on several, and on Ray: speed, memory, losses and shared limits.

    python benchmarks/scale.py [--json] [--small] [--only PART ...]

Each part of ``benchmarks/scaling/`` says in its module what it measures; together they take about 20 minutes on two
quiet cores. ``--small`` takes about 3, for a first look: its figures mean little. The Redis part needs ``redis-server``
on the PATH. Intervals are the lowest and the highest round.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.scaling import cluster, columns, scoring, shared_limits
from benchmarks.scaling.evaluation import measure_evaluation
from benchmarks.scaling.many_questions import measure_many_questions
from benchmarks.scaling.unit_costs import Assumptions, extrapolate, in_child, measure_unit_costs


def measure_costs(questions: int = 600) -> dict[str, Any]:
    """Return the costs of a completion, and those of a million and a billion; there are no bars."""
    with tempfile.TemporaryDirectory() as folder:
        costs = measure_unit_costs(questions, Path(folder))
    assumptions = Assumptions()
    details = {
        "costs": asdict(costs),
        "assumptions": asdict(assumptions),
        "million": extrapolate(costs, assumptions, 1e6),
        "billion": extrapolate(costs, assumptions, 1e9),
    }
    return {"bars": {}, "details": details}


# Each part, and the arguments of a first look.
PARTS: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {
    "many_questions": (measure_many_questions, {"questions": 400, "rounds": 4}),
    "scoring": (scoring.measure, {"completions": 10_240, "rounds": 1}),
    "columns": (columns.measure, {"completions": 512, "rounds": 3}),
    "cluster": (cluster.measure, {"n_questions": 100, "worker_kills": 2}),
    "evaluation": (measure_evaluation, {"questions": 4_000}),
    "limits_of_a_file": (shared_limits.measure, {"seconds": 4, "rounds": 1}),
    "limits_of_redis": (shared_limits.measure_redis, {"seconds": 4, "rounds": 1}),
    "unit_costs": (measure_costs, {"questions": 60}),
}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--small", action="store_true", help="a first look, in about 3 minutes")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=tuple(PARTS), metavar="PART")
    options = parser.parse_args()
    bars: dict[str, dict[str, Any]] = {}
    details: dict[str, Any] = {}
    for name in options.only:
        print(f"{name} …", file=sys.stderr, flush=True)
        measure, small = PARTS[name]
        result = in_child(measure, **(small if options.small else {}))
        bars |= result["bars"]
        details[name] = result["details"]
        if not options.json:
            show(name, result)
    if options.json:
        print(json.dumps({"bars": bars, "details": details}, indent=2))


def show(name: str, result: dict[str, Any]) -> None:
    """Print the bars and the details of one part."""
    print(f"\n{name}\n{'bar':34} {'value':>9} {'target':>9}  interval")
    for bar, entry in result["bars"].items():
        interval = "" if entry["interval"] is None else "[{:g}, {:g}]".format(*entry["interval"])
        target = "" if entry["target"] is None else f"{entry['target']:g}"
        print(f"{bar:34} {entry['value']:>9g} {target:>9}  {interval:18} {entry['unit']}")
    for key, value in result["details"].items():
        print(f"  {key}: {json.dumps(value)}")


if __name__ == "__main__":
    main()

"""Damaged replies for every codec: each may raise only the package's errors and must not give a non-finite number.

    python benchmarks/fuzz.py [--json] [--cases 100000] [--codec NAME] [--seed 0]

Good replies (every case of the contract suite, whole and streamed) have pieces replaced, repeated, moved and cut off.
The first failure of a codec is printed with its bytes and ends the run. The bars count failures: 0 is the target.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from swift_client.adapters import CODECS
from tests.codecs.hostile import mutants, survives
from tests.codecs.writers import WRITERS, Writer


def fuzz(writer: Writer, cases: int, seed: int) -> dict[str, Any]:
    """Decode ``cases`` damaged replies; stop at the first failure."""
    codec = importlib.import_module(CODECS[writer.codec])
    start, survivors = time.perf_counter(), 0
    for number, data in enumerate(mutants(writer, cases, seed)):
        try:
            survivors += survives(codec, data, number)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            return {"codec": writer.codec, "cases": number + 1, "failures": 1, "error": message, "bytes": repr(data)}
    seconds = time.perf_counter() - start
    return {"codec": writer.codec, "cases": cases, "failures": 0, "read": survivors, "seconds": round(seconds, 1)}


def main() -> int:
    """Run all codecs and print the table or the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--codec", choices=sorted(CODECS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results = []
    for writer in WRITERS:
        if options.codec in (None, writer.codec):
            results.append(fuzz(writer, options.cases, options.seed))
            if not options.json:
                print(*(f"{name} {value}" for name, value in results[-1].items()), sep="   ")
    if options.json:
        bars = {
            f"fuzz_failures_{result['codec']}": {
                "value": result["failures"],
                "target": 0,
                "unit": f"of {result['cases']} damaged replies",
                "interval": None,
            }
            for result in results
        }
        print(json.dumps({"bars": bars, "results": results}))
    return int(any(result["failures"] for result in results))


if __name__ == "__main__":
    sys.exit(main())

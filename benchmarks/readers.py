"""Readers and graders on recorded answers of real models: agreement, what stays unread, false merges, speed.

    python benchmarks/readers.py [--json] [--sets DIR] [--set NAME] [--show-disagreements K] [--pairs 60]

Agreement: share of completions on which our grade is the recorded label, labels corrected where they were shown to be
wrong (benchmarks/data/wrong_labels.json); the bar is the set with the smallest margin over its own target. Unread:
share of the completions with a stated answer of which the reader "auto" (letters: "choice") reads none. Merges: drawn
pairs of dates, scores, addresses, phone numbers, times, versions, ratios that are different (equal) by construction,
compared by are_equal, by a vote and by a grade. Time: questions of 16 answers without formulas (slowest set), and
hostile texts of 200 kB (slowest text and reader). The sets are not part of the project: see --sets.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.reading.pairs import PairResult, measure_pairs
from benchmarks.reading.sets import SET_ROWS, Corrections, SetResult, load, measure_set
from benchmarks.reading.speed import milliseconds_per_question, worst_of_hostile

WRONG_LABELS = Path(__file__).parent / "data" / "wrong_labels.json"
DEFAULT_SETS = Path(__file__).parents[2] / "shared" / "datasets" / "real"
SPEED_SETS = ("gsm8k_qwen0.5b", "date_gpt35_n40", "last_letters_gpt35_n40")


def load_corrections(path: Path) -> dict[str, Corrections]:
    """Return the labels that were shown to be wrong, per set."""
    corrections: dict[str, Corrections] = {}
    for entry in json.loads(path.read_text(encoding="utf-8"))["labels"] if path.exists() else ():
        corrections.setdefault(entry["set"], {})[entry["id"], entry["index"]] = entry["right"]
    return corrections


def bar(value: float, target: float, unit: str, interval: tuple[float, float] | None = None) -> dict[str, Any]:
    """Return one bar."""
    bounds = [round(bound, 4) for bound in interval] if interval else None
    return {"value": round(value, 4), "target": target, "unit": unit, "interval": bounds}


def set_bars(results: list[SetResult]) -> dict[str, dict[str, Any]]:
    """Return the bars of the recorded sets: each is the worst set."""
    bars = {}
    graded = [result for result in results if result.agreement]
    if graded:
        worst = min(graded, key=lambda result: result.margin)
        bars["agreement"] = bar(worst.agreement["ours"], worst.row.target, f"0-1, {worst.row.name}", worst.interval)
    for peer in ("last number", "math-verify"):
        margins = [result.agreement["ours"] - result.agreement[peer] for result in graded if peer in result.agreement]
        if margins:
            bars[f"agreement_minus_{peer.replace(' ', '_').replace('-', '_')}"] = bar(min(margins), 0.0, "0-1")
    read_sets = [result for result in results if result.unread is not None]
    if read_sets:
        worst = max(read_sets, key=lambda result: result.unread or 0)
        bars["unread"] = bar(worst.unread or 0, 0.03, f"0-1, {worst.row.name}")
    return bars


def speed_bars(milliseconds: dict[str, float], seconds: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Return the bars of time: the slowest set and the slowest text."""
    bars = {}
    if milliseconds:
        values = milliseconds.values()
        bars["ms_per_question"] = bar(max(values), 3.0, "ms, slowest set", (min(values), max(values)))
    bars["seconds_200kB"] = bar(max(seconds.values()), 0.3, "s, slowest text")
    return bars


def pair_bars(pairs: PairResult) -> dict[str, dict[str, Any]]:
    """Return the bars of the drawn pairs."""
    return {
        "false_merges": bar(pairs.false_merges, 0.0, "0-1"),
        "missed_merges": bar(pairs.missed_merges, 0.01, "0-1"),
    }


def show_sets(results: list[SetResult]) -> None:
    """Print the table of the sets, then the disagreements that were asked for."""
    print(f"{'set':28}{'labels':>8}{'grader':>8}{'agreement, %':>14}{'95 %':>15}{'target':>8}{'as recorded':>13}"
          f"{'auto':>7}{'last no.':>9}{'unread, %':>11}{'mute':>7}   vote right, %")  # fmt: skip
    for result in results:
        votes = ", ".join(f"{name} {100 * share:.1f}" for name, share in result.vote_accuracy.items())
        line = f"{result.row.name:28}{result.n_labelled or '-':>8}{result.row.grader:>8}"
        if result.agreement:
            low, high = result.interval
            met = " " if result.margin >= 0 else "!"
            line += (
                f"{100 * result.agreement['ours']:13.2f}{met}{f'{100 * low:.1f}-{100 * high:.1f}':>15}"
                f"{100 * result.row.target:8.1f}{100 * result.recorded_agreement['ours']:13.2f}"
                f"{100 * result.agreement.get('ours, auto', result.agreement['ours']):7.1f}"
                f"{100 * result.agreement['last number']:9.1f}"
            )
        else:
            line += f"{'no reference':>66}"
        if result.unread is not None:
            line += f"{100 * result.unread:11.2f}{100 * (result.mute_questions or 0):7.1f}"
        print(f"{line}   {votes}")
    for result in results:
        for entry in result.disagreements:
            print(
                f"\n{result.row.name} {entry['id']} [{entry['index']}] label {entry['label']}, ours {entry['ours']}, "
                f"read {entry['read']!r}, wanted {' | '.join(str(one)[-60:] for one in entry['references'])!r}\n"
                f"    ...{entry['text'][-400:]!r}"
            )


def show_bars(bars: dict[str, dict[str, Any]]) -> None:
    """Print the bars."""
    for name, row in bars.items():
        value, target = row["value"], row["target"]
        met = value >= target if name.startswith("agreement") else value <= target
        print(
            f"{name:28} {value:>9} bar {target:<6} {'ok' if met else 'MISSED':7} {row['unit']} {row['interval'] or ''}"
        )


def main() -> int:
    """Measure, then print tables or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--sets", type=Path, default=DEFAULT_SETS, help="folder of NAME.jsonl.gz")
    parser.add_argument("--set", action="append", choices=[row.name for row in SET_ROWS], help="this set only")
    parser.add_argument("--show-disagreements", type=int, default=0, metavar="K", help="print the first K of each set")
    parser.add_argument("--pairs", type=int, default=60, help="different and equal pairs of each kind; 0 for none")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs")
    options = parser.parse_args()
    start = time.perf_counter()
    corrections = load_corrections(WRONG_LABELS)
    results, missing = [], []
    for row in SET_ROWS:
        path = options.sets / f"{row.name}.jsonl.gz"
        if options.set and row.name not in options.set:
            continue
        if not path.exists():
            missing.append(row.name)
            continue
        began = time.perf_counter()
        results.append(measure_set(row, path, corrections.get(row.name, {}), options.show_disagreements))
        print(f"{row.name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    if missing:
        print(f"not in {options.sets}: {', '.join(missing)}; --sets DIR names another folder", file=sys.stderr)
    bars = set_bars(results)
    pairs, milliseconds, seconds = None, {}, {}
    if not options.set:
        if options.pairs:
            pairs = measure_pairs(options.pairs, options.seed)
            bars |= pair_bars(pairs)
        for name in SPEED_SETS:
            path = options.sets / f"{name}.jsonl.gz"
            if path.exists():
                questions = [[entry.text for entry in question.completions] for question in load(path)]
                if (median := milliseconds_per_question(questions, "auto")) is not None:
                    milliseconds[name] = median
        seconds = worst_of_hostile()
        bars |= speed_bars(milliseconds, seconds)
    if options.json:
        document = {
            "bars": bars,
            "sets": {result.row.name: asdict(result) for result in results},
            "missing_sets": missing,
            "pairs": asdict(pairs) if pairs else None,
            "milliseconds_per_question": milliseconds,
            "hostile_seconds": seconds,
            "seconds": time.perf_counter() - start,
        }
        print(json.dumps(document, indent=2))
        return 0
    show_sets(results)
    print()
    show_bars(bars)
    if pairs:
        print(f"\n{pairs.n_different} different pairs, merged: {pairs.false_by_kind or 'none'}")
        print(f"{pairs.n_equal} equal pairs, missed: {pairs.missed_by_kind or 'none'}")
        print("\n".join(f"  {line}" for line in pairs.examples))
    for name, value in milliseconds.items():
        print(f"{value:9.2f} ms  16 answers of {name}")
    for name, value in sorted(seconds.items(), key=lambda item: -item[1])[:8]:
        print(f"{value:9.3f} s   200 kB of {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

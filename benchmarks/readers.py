"""Readers and graders on recorded answers of real models: agreement, what stays unread, false merges, speed.

    python benchmarks/readers.py [--json] [--sets DIR] [--set NAME] [--show-disagreements K] [--no-peers]

Agreement: share of completions on which our grade is the recorded label, labels corrected where they were shown to be
wrong (benchmarks/data/wrong_labels.json); the bar is the set with the smallest margin over its own target. Unread:
share of the completions with a stated answer of which the reader "auto" (letters: "choice") reads none. Merges: drawn
pairs of dates, scores, addresses, phone numbers, times, versions, ratios that are different (equal) by construction,
compared by are_equal, by a vote and by a grade. Time: questions of 16 answers without formulas (slowest set), and
hostile texts of 200 kB (slowest text and reader). The sets are not part of the project: see --sets. Peers run on the
same completions in environments of their own, which are made in --cache; where that fails, the reason is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.peer_environments import default_cache
from benchmarks.reading.labels import Corrections, load_corrections
from benchmarks.reading.pairs import PairResult, measure_pairs
from benchmarks.reading.peers import measure_peers
from benchmarks.reading.sets import SET_ROWS, SetResult, load, measure_set
from benchmarks.reading.speed import milliseconds_per_question, worst_of_hostile

DEFAULT_SETS = Path(__file__).parents[2] / "shared" / "datasets" / "real"
SPEED_SETS = ("gsm8k_qwen0.5b", "date_gpt35_n40", "last_letters_gpt35_n40")


def bar(value: float, target: float, unit: str, interval: tuple[float, float] | None = None) -> dict[str, Any]:
    """Return one bar."""
    bounds = [round(bound, 4) for bound in interval] if interval else None
    return {"value": round(value, 4), "target": target, "unit": unit, "interval": bounds}


def set_bars(results: Sequence[SetResult]) -> dict[str, dict[str, Any]]:
    """Return the bars of the recorded sets: each is the worst set."""
    bars = {}
    graded = [result for result in results if result.agreement]
    if graded:
        worst = min(graded, key=lambda result: result.margin)
        bars["agreement"] = bar(worst.agreement["ours"], worst.row.target, f"0-1, {worst.row.name}", worst.interval)
    margins = [result.agreement["ours"] - result.agreement["last number"] for result in graded]
    if margins:
        bars["agreement_minus_last_number"] = bar(min(margins), 0.0, "0-1")
    compared = [figures for result in graded if isinstance(figures := result.peers.get("math-verify"), dict)]
    if compared:
        margins = [figures["ours"] - figures["agreement"] for figures in compared]
        bars["agreement_minus_math_verify"] = bar(min(margins), 0.0, "0-1")
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


def show_sets(results: Sequence[SetResult]) -> None:
    """Print the table of the sets."""
    print(f"{'set':28}{'labels':>7}{'mended':>7}{'out':>5}{'grader':>8}{'agreement':>11}{'95 %':>13}{'target':>8}"
          f"{'as recorded':>13}{'auto':>7}{'last no.':>9}{'math-verify':>13}{'unread':>8}{'mute':>7}")  # fmt: skip
    for result in results:
        row = result.row
        line = f"{row.name:28}{result.n_labelled:7}{result.n_corrected:7}{result.n_left_out:5}{row.grader:>8}"
        if result.agreement:
            low, high = result.interval
            figures = result.peers.get("math-verify")
            peer = f"{100 * figures['agreement']:.1f}" if isinstance(figures, dict) else "-"
            auto = result.agreement.get("ours, auto", result.agreement["ours"])
            line += (
                f"{100 * result.agreement['ours']:10.2f}{' ' if result.margin >= 0 else '!'}"
                f"{f'{100 * low:.1f}-{100 * high:.1f}':>13}{100 * row.target:8.1f}"
                f"{100 * result.recorded_agreement['ours']:13.2f}{100 * auto:7.1f}"
                f"{100 * result.agreement['last number']:9.1f}{peer:>13}"
            )
        else:
            line += f"{'no reference':>74}"
        if result.unread is not None:
            line += f"{100 * result.unread:8.2f}{100 * (result.mute_questions or 0):7.1f}"
        print(line)
    print("\nin percent. mended: labels that were wrong; out: labels that the reference cannot decide; auto, last no.,")
    print("math-verify (on a part of each set): agreement of other readers; unread: readable answers that the reader")
    print("auto (letters: choice) leaves unread; mute: questions of which it reads none")


def show_votes(results: Sequence[SetResult]) -> None:
    """Print how often each vote is right, then why a peer is missing."""
    print("\nvotes that are right, in percent")
    for result in results:
        if result.vote_accuracy:
            votes = "   ".join(f"{name} {100 * share:.1f}" for name, share in result.vote_accuracy.items())
            print(f"{result.row.name:28}{len(result.votes):6} questions   {votes}")
    reasons = {f"{peer} {text}" for result in results for peer, text in result.peers.items() if isinstance(text, str)}
    print("\n".join(sorted(reasons)))


def show_disagreements(results: Sequence[SetResult]) -> None:
    """Print the completions that were asked for."""
    for result in results:
        for entry in result.disagreements:
            print(
                f"\n{result.row.name} {entry['id']} [{entry['index']}] label {entry['label']}, ours {entry['ours']}, "
                f"read {entry['read']!r}, wanted {' | '.join(str(one)[-60:] for one in entry['references'])!r}\n"
                f"    ...{entry['text'][-400:]!r}"
            )
        for entry in result.unread_examples:
            print(f"\nunread: {result.row.name} {entry['id']} [{entry['index']}] alone {entry['read_alone']!r}\n"
                  f"    ...{entry['text'][-400:]!r}")  # fmt: skip


def to_dict(result: SetResult) -> dict[str, Any]:
    """Return the figures of a set without its texts, except the disagreements that were asked for."""
    kept_out = ("questions", "labels", "verdicts", "votes", "row")
    figures = {name: value for name, value in vars(result).items() if name not in kept_out}
    return {**asdict(result.row), **figures}


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
    parser.add_argument("--show-unread", type=int, default=0, metavar="K", help="print the first K unread of each set")
    parser.add_argument("--pairs", type=int, default=60, help="different and equal pairs of each kind; 0 for none")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs")
    parser.add_argument("--no-peers", action="store_true", help="without math-verify, its_hub and scorio")
    parser.add_argument("--peer-completions", type=int, default=500, help="completions per set for math-verify")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of the peers' environments")
    options = parser.parse_args()
    start = time.perf_counter()
    corrections = load_corrections()
    results, missing = [], []
    for row in SET_ROWS:
        path = options.sets / f"{row.name}.jsonl.gz"
        if options.set and row.name not in options.set:
            continue
        if not path.exists():
            missing.append(row.name)
            continue
        began = time.perf_counter()
        known = corrections.get(row.name, Corrections())
        results.append(measure_set(row, path, known, options.show_disagreements, options.show_unread))
        print(f"{row.name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    if missing:
        print(f"not in {options.sets}: {', '.join(missing)}; --sets DIR names another folder", file=sys.stderr)
    if not options.no_peers and not options.set:
        began = time.perf_counter()
        measure_peers(results, options.peer_completions, options.cache)
        print(f"peers: {time.perf_counter() - began:.1f} s", file=sys.stderr)
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
            "sets": {result.row.name: to_dict(result) for result in results},
            "missing_sets": missing,
            "pairs": asdict(pairs) if pairs else None,
            "milliseconds_per_question": milliseconds,
            "hostile_seconds": seconds,
            "seconds": time.perf_counter() - start,
        }
        print(json.dumps(document, indent=2))
        return 0
    show_sets(results)
    show_votes(results)
    show_disagreements(results)
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

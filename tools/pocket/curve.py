"""Draw the training log: ``python -m tools.pocket.curve LOG SVG`` writes a curve and prints Markdown tables."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swift_client.pocket.questions import FAMILIES

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 300, 46, 36
STYLE = """
  svg { font: 13px system-ui, sans-serif; background: #fff } text { fill: #5a626b } .grid { stroke: #dce0e5 }
  .line { fill: none; stroke: currentColor; stroke-width: 2 } .label { fill: currentColor }
  .arithmetic { color: #0b5cad } .coin_flip { color: #b84a00 } .last_letters { color: #1a7f4b }
  @media (prefers-color-scheme: dark) {
    svg { background: #111417 } text { fill: #a4adb7 } .grid { stroke: #363c44 } .label { fill: currentColor }
    .arithmetic { color: #74b6ff } .coin_flip { color: #ff9e57 } .last_letters { color: #3ecf9f }
  }
"""


def svg(points: Sequence[dict[str, Any]]) -> str:
    """Return the validation loss of every family by training tokens as an SVG document."""
    max_tokens = max(point["tokens"] for point in points)
    top = max(max(point["validation"].values()) for point in points)

    def x(tokens: float) -> float:
        return LEFT + (WIDTH - LEFT - 12) * tokens / max_tokens

    def y(loss: float) -> float:
        return 12 + (HEIGHT - BOTTOM - 12) * (1 - loss / top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>Validation loss of the packaged model by training tokens</title><style>{STYLE}</style>",
    ]
    for loss in range(int(top) + 1):
        parts.append(f'<path d="M{LEFT} {y(loss):.1f}H{WIDTH - 12}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss}</text>')
    parts += [
        f'<text x="{x(millions * 1e6):.1f}" y="{HEIGHT - 18}" text-anchor="middle">{millions} M</text>'
        for millions in range(0, int(max_tokens / 1e6) + 1, 2)
    ]
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle">training tokens</text>')
    parts.append('<text x="4" y="10">validation loss, nats per token</text>')
    for row, family in enumerate(FAMILIES):
        line = " ".join(f"{x(point['tokens']):.1f},{y(point['validation'][family]):.1f}" for point in points)
        parts.append(f'<polyline points="{line}" class="line {family}"/>')
        parts.append(
            f'<text x="{WIDTH - 20}" y="{30 + 16 * row}" text-anchor="end" class="label {family}">'
            f"{family.replace('_', ' ')}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def loss_table(points: Sequence[dict[str, Any]], every: int) -> str:
    """Return every ``every``-th point as a Markdown table."""
    lines = ["| step | tokens | minutes | loss | " + " | ".join(FAMILIES) + " |", "| --: " * 7 + "|"]
    for point in points:
        if point["step"] % every == 0 or point is points[-1]:
            losses = " | ".join(f"{point['validation'][family]:.3f}" for family in FAMILIES)
            minutes = f"{point['minutes']:.1f}"
            lines.append(f"| {point['step']} | {point['tokens']:,} | {minutes} | {point['loss']:.3f} | {losses} |")
    return "\n".join(lines)


def accuracy_table(points: Sequence[dict[str, Any]], family: str) -> str:
    """Return the accuracies of ``family`` by level, one row per checkpoint, as a Markdown table."""
    rows = [(point["step"], point["accuracy"][family]) for point in points if "accuracy" in point]
    levels = max(len(shares) for _, shares in rows)
    lines = [f"| step | {' | '.join(str(level) for level in range(1, levels + 1))} |", "| --: " * (levels + 1) + "|"]
    for step, shares in rows:
        lines.append(
            f"| {step} | " + " | ".join(f"{share:.0%}" for share in shares) + " |" + " |" * (levels - len(shares))
        )
    return "\n".join(lines)


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("svg", type=Path)
    options = parser.parse_args()
    points = json.loads(options.log.read_text())["points"]
    options.svg.write_text(svg(points))
    print(loss_table(points, 400))
    for family in FAMILIES:
        print(f"\n{family}, single-sample accuracy by level:\n\n{accuracy_table(points, family)}")


if __name__ == "__main__":
    main()

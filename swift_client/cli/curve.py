"""``curve``: accuracy against training questions, against n, and across families of questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from swift_client.cli import options, picture, screen
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.render import plain

if TYPE_CHECKING:
    from swift_client.training.curve import Curve, Point
    from swift_client.training.evaluation import Estimate

_LABELS = {
    "head_vote": "vote",
    "head": "best",
    "majority": "majority",
    "mean_logprob": "logprob",
    "first": "one",
    "oracle": "any",
}


def curve(
    samples: Annotated[list[Path], typer.Argument(help="Files that `swift-client collect` wrote, of one model.")],
    over: Annotated[
        Literal["questions", "n", "family"],
        typer.Option(
            help="questions: trained on more and more; n: of one head; family: trained on one, tested on all."
        ),
    ] = "questions",
    sizes: Annotated[
        str | None, typer.Option(help="Numbers of questions; default 50,100,200,500,1000,2000,5000 and all.")
    ] = None,
    n: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Completions to choose from; with --over n it may be repeated. Default: 8, or 1 to 64."
        ),
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option(help="Files of other questions to judge on, instead of the test part.")
    ] = None,
    head: Annotated[Path | None, typer.Option(help="With --over n, a head instead of one trained here.")] = None,
    recipe: Annotated[str, typer.Option(help="How heads are trained; see `swift-client train --help`.")] = "default",
    layers: Annotated[str | None, typer.Option(help="Hidden states to read, for recipes that do.")] = None,
    answer: options.Answer = "auto",
    grade: options.Grade = "auto",
    subsets: Annotated[int, typer.Option(min=1, help="Draws of n completions a question.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and samples give the same curve.")] = 0,
    svg: Annotated[Path | None, typer.Option(help="Draw the curve into this file.")] = None,
    as_json: options.Json = False,
) -> None:
    """Show how a head's worth grows with questions and with n, and whether it carries over to other families."""
    try:
        from swift_client.training.curve import NS, SIZES
        from swift_client.training.curve import curve as draw
        from swift_client.training.curve_picture import curve_svg
        from swift_client.training.recipes import recipe_of
    except ImportError as error:
        raise MissingExtraError.needs("train", "Drawing curves") from error
    if head is not None and over != "n":
        raise ConfigurationError("--head is for --over n.", hint="The other curves train heads of their own.")
    if over != "n" and n is not None and len(n) > 1:
        raise ConfigurationError("--n may be repeated with --over n only.", hint="Give it once.")
    picture.place(svg)
    with screen.progress().status("training …") as status:
        found = draw(
            samples,
            over,
            sizes=SIZES if sizes is None else options.numbers("--sizes", sizes),
            ns=n or NS,
            n=(n or [8])[0],
            test=test or None,
            head=head,
            recipe=recipe_of(recipe, layers=None if layers is None else options.numbers("--layers", layers)),
            answer=answer,
            grade=grade,
            subsets=subsets,
            seed=seed,
            progress=lambda stage, done: status.update(f"{done} {stage} …"),
        )
    picture.write(svg, lambda: curve_svg(found))
    if as_json:
        screen.document(found.to_dict())
        return
    first = found.points[0]
    counts = f"{first.tested:,} test questions" if over != "family" else f"n = {first.n}"
    screen.show(Text(plain(f"{found.provider}/{found.model} · {counts}"), style="bold"))
    screen.show(_families(found) if over == "family" else _table(found))
    words = "The head's vote against majority, points, and its AUROC within a question"
    if over != "family":
        words = "Right, % of the questions: the head's vote, its best, majority, most confident, one answer, any of n"
    screen.show(Text(f"{words}; 95 % intervals over questions.", style="dim"))
    for note in found.notes:
        screen.progress().print(Text(plain(note), style="yellow"))


def _table(found: Curve) -> Table:
    table = Table(box=None)
    for name in ("n" if found.over == "n" else "questions", *_LABELS.values()):
        table.add_column(name, no_wrap=True)
    table.add_column("vote less majority")
    table.add_column("AUROC")
    for point in found.points:
        table.add_row(
            f"{point.n if found.over == 'n' else point.size:,}",
            *(f"{100 * point.accuracy[name].value:.1f}" for name in _LABELS),
            _points(point.minus_majority["head_vote"]),
            _number(point.within_question_auroc),
        )
    return table


def _families(found: Curve) -> Table:
    tested = list(dict.fromkeys(point.tested_on for point in found.points))
    counts = {point.tested_on: point.tested for point in found.points}
    table = Table("trained on", *(plain(f"{name} ({counts[name]})") for name in tested), box=None)
    rows: dict[str, list[Point]] = {}
    for point in found.points:
        rows.setdefault(point.trained_on, []).append(point)
    for name, points in rows.items():
        cells = [
            f"{_points(each.minus_majority['head_vote'])}\n{_number(each.within_question_auroc)}" for each in points
        ]
        table.add_row(Text(plain(f"{name} ({points[0].size})")), *cells)
    return table


def _points(each: Estimate) -> str:
    return f"{100 * each.value:+.1f} [{100 * each.low:+.1f}, {100 * each.high:+.1f}]"


def _number(each: Estimate) -> str:
    return f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]"

"""``report``: an evaluation as one HTML page, with the head's view of every token."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swift_client.cli import options, output, progress


def report(
    head: Annotated[Path, typer.Argument(help="The head file, from `swift-client train`.")],
    samples: options.SamplesOfHead,
    out: Annotated[Path, typer.Option(help="The HTML file to write, such as report.html.")],
    split: options.Split = "test",
    n: options.Ns = None,
    subsets: options.Subsets = 200,
    seed: options.Seed = 0,
    answer: options.AnswerAsTrained = options.AS_TRAINED,
    train_samples: options.TrainSamples = None,
    trained: options.Trained = True,
    as_json: options.Json = False,
) -> None:
    """Write an HTML report on a head: all comparisons, and its rewards for single tokens. It quotes your samples."""
    from swift_client import training
    from swift_client.evaluation.advice import advise
    from swift_client.report.summary import summary

    output.check_output_path(out)
    with progress.stage_status() as update:
        evaluation = training.report(
            head,
            samples,
            out=out,
            split=split,
            ns=n or (1, 2, 4, 8, 16),
            subsets=subsets,
            seed=seed,
            answer=options.parse_answer(answer),
            train_samples=train_samples or None,
            trained=trained,
            progress=update,
        )
    if as_json:
        output.print_json({"report": str(out), "evaluation": evaluation.to_dict()})
        return
    output.show(output.safe(str(advise(evaluation)), "bold"), output.safe(summary(evaluation)))
    output.warn(*evaluation.notes)
    output.show(output.safe(str(out)), wrap=False)

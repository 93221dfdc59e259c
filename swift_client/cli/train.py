"""``train``: from a samples file to a head, and whether that head is worth using."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from swift_client.cli import options, output
from swift_client.cli.evaluate import AS_ANSWER
from swift_client.display import escape_unsafe

if TYPE_CHECKING:
    from swift_client.models import AnyHead
    from swift_client.training.fit import TrainResult


def train(
    samples: Annotated[list[Path], typer.Argument(help="Files that `swift-client collect` wrote, of one model.")],
    out: Annotated[Path, typer.Option(help="Where the head goes, such as head.safetensors.")],
    answer: options.Answer = "auto",
    grade: options.Grade = AS_ANSWER,
    recipe: Annotated[
        str,
        typer.Option(
            help="default, thinking, hidden, hybrid, or as published: swift, swift-hidden, swift-logits, swift-top-k."
        ),
    ] = "default",
    layers: Annotated[
        str | None, typer.Option(help="Hidden states to read, such as 16,24,28,32. Default: all that were captured.")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="bce, hinge, pairwise, infonca, nca, or both: bce and pairwise.")
    ] = None,
    gate: Annotated[bool, typer.Option("--gate/--no-gate", help="Whether tokens weigh differently.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and samples give the same head.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
    k: Annotated[int | None, typer.Option(min=0, help="Read so many alternatives a token and no more.")] = None,
    as_json: options.Json = False,
) -> None:
    """Train a head on graded samples; it says itself when it is no better than majority."""
    from swift_client import training

    chosen = None if layers is None else options.parse_numbers("--layers", layers)
    changed = chosen is not None or loss is not None or not gate
    with output.stderr_console().status("reading samples …") as status:
        result = training.train(
            samples,
            out=out,
            answer=None if answer == "none" else answer,
            grade=None if grade == AS_ANSWER else grade,
            recipe=training.recipe_of(recipe, layers=chosen, loss=loss, gate=gate) if changed else recipe,
            seed=seed,
            device=device,
            k=k,
            progress=lambda stage, done: status.update(f"{done} {stage} …"),
        )
    if as_json:
        output.print_json(_facts(result, out))
        return
    _show(result, out)


def _facts(result: TrainResult, out: Path) -> dict[str, Any]:
    from swift_client.models import HiddenHead

    artifact = result.artifact
    reads = artifact.logprob_head if isinstance(artifact, HiddenHead) else artifact
    return {
        "head": str(out),
        "provider": artifact.provider,
        "model": artifact.model,
        "k_min": artifact.k_min,
        "k_max": artifact.k_max,
        "features": list(reads.features) if reads else [],
        "response_terms": list(reads.response_terms) if reads else [],
        **({"layers": list(artifact.layers), "width": artifact.width} if isinstance(artifact, HiddenHead) else {}),
        **artifact.training,
        "history": [{"train": epoch.train_loss, "validation": epoch.validation_loss} for epoch in result.history],
    }


def _describe_inputs(artifact: AnyHead) -> str:
    from swift_client.models import HiddenHead

    lists = f"lists of {artifact.k_min} to {artifact.k_max} alternatives a token"
    if not isinstance(artifact, HiddenHead):
        return lists
    layers = ", ".join(map(str, artifact.layers))
    own = f"the hidden states {layers}" if layers else f"the logprobs of all {artifact.width} tokens"
    return f"{own}, and {lists}" if artifact.logprob_head else own


def _show(result: TrainResult, out: Path) -> None:
    artifact, facts = result.artifact, result.artifact.training
    counts = ", ".join(f"{count} {part}" for part, count in facts["questions"].items())
    numbers = ", ".join(
        f"{name.replace('_', ' ')} {value:.3f}" for name, value in result.metrics.items() if value is not None
    )
    output.show(
        Text(escape_unsafe(f"{out} · head for {artifact.provider}/{artifact.model}"), style="bold"),
        Text(f"  questions: {counts}; {facts['epochs']} epochs, the best was {facts['best_epoch']}"),
        Text(f"  on questions that it was trained without: {numbers}"),
        Text(f"  reads {_describe_inputs(artifact)}"),
    )
    judged = result.usefulness
    bound = (
        "cannot be told" if judged.mixed_questions == 0 else f"is {judged.auroc:.3f}, at least {judged.lower_bound:.3f}"
    )
    output.show(
        Text(f"  without agreement, within-question AUROC {bound} on {judged.mixed_questions} mixed questions"),
        Text(f"  verdict: {result.verdict}", style="green" if judged.beats_chance else "yellow"),
    )
    if unlabelled := facts["unlabelled"]:
        warning = f"{unlabelled} completions could not be judged, and nothing is learned from them: see --grade."
        output.stderr_console().print(Text(warning, style="yellow"))
    if judged.beats_chance:
        from swift_client.models import user_folder

        output.show(Text(escape_unsafe(f'  in {user_folder()} head="auto" finds it'), style="dim"))
    else:
        warning = "This head will not weigh votes: best-of then votes by count. More labelled questions may help."
        output.stderr_console().print(Text(warning, style="yellow"))

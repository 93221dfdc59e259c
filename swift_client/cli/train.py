"""``train``: train a head on a samples file and test whether it is useful."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from swift_client.cli import options, output, progress

if TYPE_CHECKING:
    from swift_client.models import AnyHead
    from swift_client.training.fit import TrainResult


def train(
    samples: options.SamplesOfModel,
    out: Annotated[Path, typer.Option(help="The head file to write, such as head.safetensors.")],
    answer: options.Answer = "auto",
    grade: options.Grade = options.AS_ANSWER,
    recipe: Annotated[
        str,
        typer.Option(
            help="How the head is trained: default, thinking, hidden, hybrid, or as in the papers: swift, "
            "swift-hidden, swift-logits, swift-top-k."
        ),
    ] = "default",
    layers: options.Layers = None,
    loss: Annotated[
        str | None, typer.Option(help="bce, hinge, pairwise, infonca, nca, or both (bce and pairwise).")
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate/--no-gate", help="Learn a weight per token; --no-gate weights all tokens equally.")
    ] = True,
    seed: options.Seed = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto (a GPU if there is one).")] = "auto",
    k: Annotated[int | None, typer.Option(min=0, help="Read at most this many alternatives per token.")] = None,
    test_samples: Annotated[
        list[Path] | None,
        typer.Option(
            "--test-samples", help="Graded samples for the verdict; by default a fifth of SAMPLES is kept for it."
        ),
    ] = None,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(
            help="Samples of further questions without answers, for when you have few labels: the head first learns "
            "which answers agree, then from your labels. Questions with a label in SAMPLES are left out, so this may "
            "be the same file."
        ),
    ] = None,
    feedback: options.Feedback = False,
    as_json: options.Json = False,
) -> None:
    """Train a head on graded samples and report whether it beats the best rule that needs no labels."""
    from swift_client import training

    options.require_samples_files([*samples, *(test_samples or ()), *(unlabelled or ())])
    layer_numbers = options.parse_layers(layers)
    has_changes = layer_numbers is not None or loss is not None or not gate
    with progress.stage_status() as update:
        result = training.train(
            samples,
            out=out,
            answer=options.parse_none(answer),
            grade=options.parse_grade(grade),
            recipe=training.recipe_of(recipe, layers=layer_numbers, loss=loss, gate=gate) if has_changes else recipe,
            seed=seed,
            device=device,
            k=k,
            test_samples=test_samples or None,
            unlabelled=unlabelled or None,
            feedback=feedback,
            progress=update,
        )
    if as_json:
        output.print_json(_to_dict(result, out))
    else:
        _show(result, out)


def _to_dict(result: TrainResult, out: Path) -> dict[str, Any]:
    from swift_client.models import HiddenHead

    artifact = result.artifact
    logprob_head = artifact.logprob_head if isinstance(artifact, HiddenHead) else artifact
    return {
        "head": str(out),
        "provider": artifact.provider,
        "model": artifact.model,
        "k_min": artifact.k_min,
        "k_max": artifact.k_max,
        "features": list(logprob_head.features) if logprob_head else [],
        "response_terms": list(logprob_head.response_terms) if logprob_head else [],
        **({"layers": list(artifact.layers), "width": artifact.width} if isinstance(artifact, HiddenHead) else {}),
        "verifiers": [asdict(term) for term in artifact.verifier_terms],
        **artifact.training,
        **({"notes": list(result.notes)} if result.notes else {}),
        "history": [{"train": epoch.train_loss, "validation": epoch.validation_loss} for epoch in result.history],
    }


def _describe_inputs(artifact: AnyHead) -> str:
    from swift_client.models import HiddenHead

    logprobs = f"{artifact.k_min} to {artifact.k_max} alternatives per token"
    if not isinstance(artifact, HiddenHead):
        return logprobs
    layers = ", ".join(map(str, artifact.layers))
    states = f"the hidden states {layers}" if layers else f"the logprobs of all {artifact.width} tokens"
    return f"{states}, and {logprobs}" if artifact.logprob_head else states


def _describe_agreement(facts: dict[str, int]) -> str:
    return f"  learnt first from the agreement of {facts['unlabelled_questions']:,} questions without labels"


def _describe_verifiers(result: TrainResult) -> list[str]:
    """Return one sentence per verifier that judged the samples."""
    tested = {term.verifier: str(term) for term in result.artifact.verifier_terms}
    few = "has too few judged questions to learn its weight: 30 held-out ones and 30 test questions are needed."
    return [tested.get(verifier, f"The verifier {verifier} {few}") for verifier in result.verifier_weights]


def _show(result: TrainResult, out: Path) -> None:
    from swift_client.evaluation.methods import format_beta
    from swift_client.models import user_folder
    from swift_client.models.artifact import describe_verdict
    from swift_client.training.stopping_costs import describe_costs

    artifact, facts, test = result.artifact, result.artifact.training, result.usefulness
    counts = ", ".join(f"{count} {part}" for part, count in facts["questions"].items())
    metrics = ", ".join(
        f"{name.replace('_', ' ')} {value:.3f}" for name, value in result.metrics.items() if value is not None
    )
    auroc = "is unknown" if test.mixed_questions == 0 else f"is {test.auroc:.3f}, at least {test.lower_bound:.3f}"
    output.show(
        output.safe(f"{out} · head for {artifact.provider}/{artifact.model}", "bold"),
        Text(f"  questions: {counts}; {facts['epochs']} epochs, the best was {facts['best_epoch']}"),
        *([Text(_describe_agreement(facts["agreement_first"]))] if "agreement_first" in facts else []),
        Text(f"  on questions that it was not trained on: {metrics}"),
        Text(f"  reads {_describe_inputs(artifact)}"),
        Text(f"  without agreement, AUROC within a question {auroc} on {test.mixed_questions} mixed questions"),
        Text(f"  votes weigh exp(β · log odds) with β = {format_beta(artifact.beta)}"),
        Text(f"  {describe_costs(facts['stopping'])}"),
        *(output.safe(f"  {sentence}") for sentence in _describe_verifiers(result)),
    )
    output.warn(*result.notes)
    if unlabelled := facts["unlabelled"]:
        output.warn(f"{unlabelled} completions could not be graded and were not used: see --grade.")
    style = "green" if artifact.beats_majority else "yellow"
    output.show(
        Text(f"  verdict: {result.verdict}", style=style),
        output.safe(f"  its vote {describe_verdict(facts)}"),
    )
    if artifact.beats_majority:
        output.show(output.safe(f'  put it into {user_folder()}, and head="auto" finds it', "dim"))
    else:
        output.warn(
            "This head is set aside: best-of votes as without a head, unless you ask for it by its name. More labelled "
            "questions may help."
        )

"""The command ``rank``: one reply from a file or stdin, or all questions of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from swift_client.cli import options, output
from swift_client.cli.cluster.option import Ray, require_cluster
from swift_client.cli.ranking.one_question import rank_question
from swift_client.cli.ranking.stored import rank_stored

# Options of one question, which say nothing about a file of many.
_ONE_QUESTION = ("prompt", "verifier", "verifier_mode", "verifier_when", "criteria", "reference", "verifier_base_url")
_OF_REPLIES = ("provider", "model")  # samples name theirs
_OF_FILES = ("out", "workers")


def rank(
    file: Annotated[
        typer.FileBinaryRead | None,
        typer.Argument(
            help="File with a raw reply, or with one reply per line (JSONL), to one question. Use - to read stdin.",
            show_default=False,
        ),
    ] = None,
    provider: options.Provider = "openai",
    model: Annotated[
        str | None,
        typer.Option(
            help="The model that wrote the replies. FILE needs it for --head auto; with --replies, the default is the "
            "model that a reply names."
        ),
    ] = None,
    head: options.Head = "none",
    prompt: Annotated[
        str | None, typer.Option(help="The question; a verifier needs it, and some heads accept no answer without it.")
    ] = None,
    scorer: options.Scorer = "auto",
    answer: options.Answer = "auto",
    select: options.Select = "auto",
    similarity: options.Similarity = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            help="Instead of FILE: samples file of `collect`, or a Parquet file or folder of samples. Needs --out."
        ),
    ] = None,
    replies: Annotated[
        Path | None,
        typer.Option(
            help='Instead of FILE: file of JSON lines {"id", "reply", "prompt" or "messages"}, a reply or a list of '
            "replies to one question each. Needs --out."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="With --samples or --replies: .jsonl or .parquet file for the choices, a row per question."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="With --samples or --replies: processes at once. Default: one per usable core."),
    ] = None,
    ray: Ray = None,
    verifier: options.Judge = None,
    verifier_mode: options.VerifierMode = "auto",
    verifier_when: options.VerifierWhen = "doubt",
    criteria: options.Criteria = None,
    reference: options.Reference = None,
    verifier_base_url: Annotated[
        str | None, typer.Option(help="URL of the judge, if it is on your own server.")
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Choose among the completions of replies to one question, or of all questions of a file.

    Requests are sent to a verifier only.
    """
    path = samples or replies
    require_cluster(ray, None, refused={"FILE": file, "--workers": workers})
    if sum(source is not None for source in (file, samples, replies)) != 1:
        raise typer.BadParameter("Give either FILE, --samples or --replies.")
    if file is not None:
        _refuse_options(_OF_FILES, "--samples or --replies")
        judging = options.create_verifier(
            verifier, mode=verifier_mode, when=verifier_when, criteria=criteria, reference=reference
        )
        selection = rank_question(
            file,
            provider=provider,
            model=model,
            head=head,
            prompt=prompt,
            scorer=scorer,
            answer=answer,
            select=select,
            similarity=similarity,
            verifier=judging,
            reference=reference,
            verifier_base_url=verifier_base_url,
        )
        output.show_selection(selection, as_json=as_json)
        return 0
    _refuse_options(_ONE_QUESTION, "FILE")
    if samples is not None:
        _refuse_options(_OF_REPLIES, "FILE or --replies")
    if path is None or out is None:
        raise typer.BadParameter("--samples and --replies need --out.")
    kind: Literal["samples", "replies"] = "replies" if samples is None else "samples"
    settings: dict[str, Any] = {
        "head": options.parse_none(head),
        "scorer": scorer,
        "answer": options.parse_none(answer),
        "select": select,
        "similarity": similarity,
        "provider": provider if model is None else f"{provider}/{model}",
    }
    if ray is not None:
        from swift_client.cli.cluster.rank import rank_on_cluster

        return rank_on_cluster(path, out, kind=kind, address=ray, as_json=as_json, settings=settings)
    return rank_stored(path, out, kind=kind, workers=workers, as_json=as_json, settings=settings)


def _refuse_options(names: tuple[str, ...], place: str) -> None:
    """Raise BadParameter if one of the options was given, which belongs to another kind of input."""
    context = output.current_context()
    flags = {parameter.name: parameter.opts[-1] for parameter in context.command.params}
    for name in names:
        if context.get_parameter_source(name).name != "DEFAULT":
            raise typer.BadParameter(f"{flags[name]} goes with {place} only.")

"""``best-of`` asks a model; ``rank`` chooses among replies that you already have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from swift_client.cli import options, output
from swift_client.errors import ConfigurationError


def best_of(
    prompt: Annotated[str, typer.Argument(help="The question; - reads it from stdin.")],
    provider: options.Provider = "openai",
    model: options.Model = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=1024, help="How many answers to draw.")] = 16,
    temperature: Annotated[float | None, typer.Option(help="The provider's own, if not given.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    head: options.Head = "auto",
    scorer: options.Scorer = "auto",
    answer: options.Answer = "auto",
    select: options.Select = "auto",
    deadline: Annotated[float | None, typer.Option(help="Choose from what has arrived after so many seconds.")] = None,
    stopping: Annotated[
        str | None, typer.Option(help='Draw in waves and stop early: auto, or a rule such as "beta:threshold=0.9".')
    ] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Spend at most so many US dollars.")] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(help="Spend at most so many tokens, prompts included; give --max-tokens with it.")
    ] = None,
    budget_seconds: Annotated[float | None, typer.Option(help="Start no call after so many seconds.")] = None,
    budget_calls: Annotated[int | None, typer.Option(help="Send at most so many requests, retries included.")] = None,
    on_reject: Annotated[
        str, typer.Option(help="An answer that is not accepted (see calibrate): return, abstain (exit 6) or escalate.")
    ] = "return",
    abort: Annotated[
        str | None, typer.Option(help='Close streams that lose confidence: deepconf, head, or "deepconf:keep=0.1".')
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Sent to the provider; call i sends seed + i.")] = None,
    schema: Annotated[
        typer.FileBinaryRead | None, typer.Option(help="A JSON schema that answers have to fit; others do not win.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Keep every reply in this samples file, and reuse those that are there.")
    ] = None,
    base_url: options.BaseUrl = None,
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Draw n answers to PROMPT and print the best."""
    from swift_client.reranker import SwiftReranker
    from swift_client.sampling import Budget

    question = _read_stdin() if prompt == "-" else prompt
    shape = _parse_schema(schema.read()) if schema else None
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    wanted = {"usd": budget_usd, "tokens": budget_tokens, "seconds": budget_seconds, "calls": budget_calls}
    limits: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    with (
        SwiftReranker(
            provider,
            model,
            head=_parse_none(head),
            scorer=scorer,
            answer=_parse_none(answer),
            select=select,
            base_url=base_url,
            timeout=timeout,
            store=store,
            abort=abort,
        ) as reranker,
        output.stderr_console().status(f"asking {provider} for {n} answers …"),
    ):
        selection = reranker.best_of(
            question,
            n,
            deadline=deadline,
            stopping=stopping,
            on_reject=on_reject,
            budget=Budget(**limits) if limits else None,
            seed=seed,
            response_model=shape,
            **{name: value for name, value in sampling.items() if value is not None},
        )
    output.show_selection(selection, as_json=as_json)


def rank(
    file: Annotated[
        typer.FileBinaryRead, typer.Argument(help="A raw reply, or one reply a line (JSONL); - reads stdin.")
    ],
    provider: options.Provider = "openai",
    model: Annotated[str | None, typer.Option(help="The model that answered; --head auto asks for it.")] = None,
    head: options.Head = "none",
    scorer: options.Scorer = "auto",
    answer: options.Answer = "auto",
    select: options.Select = "auto",
    as_json: options.Json = False,
) -> None:
    """Choose among the completions of replies to one question. Nothing is sent."""
    from swift_client.adapters import resolve
    from swift_client.models.resolve_head import find_for_model, load_named
    from swift_client.reranker.rank_replies import rank_reply
    from swift_client.selection.select import FALLBACK_SCORER, SelectionConfig

    row, _ = resolve(provider, model or "any")
    picked = find_for_model(row.name, model or row.default_model) if head == "auto" else load_named(_parse_none(head))
    if picked.artifact and scorer != "auto":
        raise ConfigurationError("--head and --scorer are both given.", hint="Give one of them.")
    rules = SelectionConfig(
        scorer=picked.artifact or (FALLBACK_SCORER if scorer == "auto" else scorer),
        answer=_parse_none(answer),
        select=select,
        force_head=picked.force_head,
        notes=picked.notes,
    )
    output.show_selection(rank_reply(file.read(), row, rules), as_json=as_json)


def _parse_none(spec: str) -> str | None:
    return None if spec == "none" else spec


def _parse_schema(data: bytes) -> dict[str, Any]:
    import msgspec

    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"The file of --schema is no JSON object: {error}.") from error


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"The prompt on stdin is not UTF-8: {error}.") from error

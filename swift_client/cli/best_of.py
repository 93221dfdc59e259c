"""``best-of``: sample answers to one prompt, or to those of a file, and print the best."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swift_client.cli import options, output, progress
from swift_client.cli.cluster.option import DEFAULT_WORKERS, Ray, RayWorkers, require_cluster

if TYPE_CHECKING:
    from swift_client.types import Message


def best_of(
    prompt: Annotated[
        str | None, typer.Argument(help="The question. Use - to read it from stdin.", show_default=False)
    ] = None,
    provider: options.Provider = "openai",
    model: options.Model = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=1024, help="Number of answers to sample.")] = 16,
    temperature: options.Temperature = None,
    max_tokens: options.MaxTokens = None,
    param: options.Param = None,
    system: options.System = None,
    messages: Annotated[
        typer.FileBinaryRead | None,
        typer.Option(help="Instead of PROMPT: file with a JSON list of chat messages. Use - to read stdin."),
    ] = None,
    head: options.Head = "auto",
    scorer: options.Scorer = "auto",
    answer: options.Answer = "auto",
    select: options.Select = "auto",
    similarity: options.Similarity = None,
    verifier: options.Judge = None,
    verifier_mode: options.VerifierMode = "auto",
    verifier_when: options.VerifierWhen = "doubt",
    criteria: options.Criteria = None,
    reference: options.Reference = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            help='Instead of PROMPT: file of JSON lines {"id", "prompt" or "messages"}, as `collect` reads it. Needs '
            "--out."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --questions: file for the answers, one JSON line per question. If it exists, only the questions "
            "without an answer in it are asked."
        ),
    ] = None,
    concurrency: options.Concurrency = 16,
    requests_per_minute: options.RequestsPerMinute = None,
    tokens_per_minute: options.TokensPerMinute = None,
    limits: options.Limits = None,
    deadline: Annotated[
        float | None, typer.Option(help="After this many seconds, choose among the answers that have arrived.")
    ] = None,
    stopping: Annotated[
        str | None, typer.Option(help='Sample in waves and stop early: auto, or a rule such as "beta:threshold=0.9".')
    ] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Spend at most this many US dollars.")] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(help="Use at most this many tokens, prompts included; set --max-tokens too.")
    ] = None,
    budget_seconds: Annotated[float | None, typer.Option(help="Start no request after this many seconds.")] = None,
    budget_calls: Annotated[int | None, typer.Option(help="Send at most this many requests, retries included.")] = None,
    on_reject: Annotated[
        str,
        typer.Option(
            help="If the answer is not accepted (see `calibrate`): return, abstain (exit code 6) or escalate."
        ),
    ] = "return",
    abort: Annotated[
        str | None, typer.Option(help='Close streams whose confidence drops: deepconf, head, or "deepconf:keep=0.1".')
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed that is sent to the provider, increased by 1 per completion.")
    ] = None,
    schema: Annotated[
        typer.FileBinaryRead | None, typer.Option(help="File with a JSON schema; answers that do not match cannot win.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Samples file, or URL of a Redis (redis://host:6379/0): replies stored in it are reused, new ones are "
            "added."
        ),
    ] = None,
    redact: options.Redact = None,
    keep: options.Keep = "all",
    ray: Ray = None,
    ray_workers: RayWorkers = None,
    base_url: options.BaseUrl = None,
    api_key_env: options.ApiKeyEnv = None,
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> int:
    """Sample n answers to PROMPT and print the best one, or those to each question of a file."""
    from swift_client.reranker import SwiftReranker
    from swift_client.sampling import Budget

    if (questions is None) != (out is None):
        raise typer.BadParameter("Give both --questions and --out, or neither.")
    question: str | list[Message] = ""
    if questions is None:
        question = _parse_question(prompt, messages, system)
    elif prompt is not None or messages is not None:
        raise typer.BadParameter("Give either a prompt, --messages or --questions.")
    require_cluster(ray, ray_workers, refused={"PROMPT": questions is None, "--schema": schema, "--limits": limits})
    response_model = _parse_schema(schema.read()) if schema else None
    sampling = options.parse_params(param, temperature=temperature, max_tokens=max_tokens)
    judging = options.create_verifier(
        verifier, mode=verifier_mode, when=verifier_when, criteria=criteria, reference=reference
    )
    if store is not None and "://" not in store:
        output.check_output_path(Path(store))
    budget = options.drop_none(usd=budget_usd, tokens=budget_tokens, seconds=budget_seconds, calls=budget_calls)
    settings: dict[str, Any] = {
        "deadline": deadline,
        "stopping": stopping,
        "on_reject": on_reject,
        "budget": Budget(**budget) if budget else None,
        "seed": seed,
        "response_model": response_model,
        "reference": reference,
        **sampling,
    }
    arguments: dict[str, Any] = {
        "head": options.parse_none(head),
        "scorer": scorer,
        "answer": options.parse_none(answer),
        "select": select,
        "similarity": similarity,
        "base_url": base_url,
        "api_key": options.read_api_key(api_key_env),
        "timeout": timeout,
        "store": store,
        "abort": abort,
        "verifier": judging,
        "redact": redact,
        "keep": keep,
    }
    if ray is not None and questions is not None and out is not None:
        from swift_client.cli.cluster.best_of import answer_on_cluster

        call = {name: value for name, value in settings.items() if value is not None}
        return answer_on_cluster(
            questions,
            out,
            address=ray,
            workers=ray_workers or DEFAULT_WORKERS,
            system=system,
            settings={
                "provider": provider,
                "model": model,
                "n": n,
                "reranker": arguments,
                "requests_per_minute": requests_per_minute,
                "tokens_per_minute": tokens_per_minute,
                "concurrency": concurrency,
                **call,
            },
            as_json=as_json,
        )
    limit = options.rate_limit(concurrency, requests_per_minute, tokens_per_minute, limits)
    with SwiftReranker(provider, model, limit=limit, **arguments) as reranker:
        if questions is not None and out is not None:
            from swift_client.cli.questions.command import answer_questions

            return answer_questions(reranker, questions, out, n, system=system, as_json=as_json, settings=settings)
        with progress.show_status(f"sampling {n} answers from {provider} …"):
            selection = reranker.best_of(question, n, **settings)
    output.show_selection(selection, as_json=as_json)
    return 0


def _parse_question(
    prompt: str | None, messages_file: typer.FileBinaryRead | None, system: str | None
) -> str | list[Message]:
    """Return the prompt, or messages if there is a file of them or a system prompt."""
    if (prompt is None) == (messages_file is None):
        raise typer.BadParameter("Give either a prompt, --messages or --questions.")
    if messages_file is not None:
        messages = _parse_messages(messages_file.read())
        return messages if system is None else options.add_system_message(system, messages)
    question = _read_stdin() if prompt == "-" else prompt or ""
    # Without a question, the system prompt would be asked alone.
    if system is None or not question.strip():
        return question
    return options.add_system_message(system, [{"role": "user", "content": question}])


def _parse_messages(data: bytes) -> list[Message]:
    import msgspec

    try:
        return msgspec.json.decode(data, type=list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"The file given to --messages is not a JSON list of messages: {error}.") from error


def _parse_schema(data: bytes) -> dict[str, Any]:
    import msgspec

    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"The file given to --schema is not a JSON object: {error}.") from error


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"The prompt on stdin is not valid UTF-8: {error}.") from error

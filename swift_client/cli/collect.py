"""``collect``: sample completions of many questions into a samples file, or import replies you already have."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from swift_client.cli import options, output, progress
from swift_client.cli.cluster.option import DEFAULT_WORKERS, Ray, RayWorkers, is_parquet, require_cluster
from swift_client.cli.error_facts import BUDGET, PROVIDER
from swift_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from swift_client.collect.collect import CollectResult, Prices
    from swift_client.store import StoredQuestion
    from swift_client.verify.verifier import Verifier


def collect(
    *,
    questions: Annotated[
        Path | None,
        typer.Option(
            help='File of JSON lines: {"id", "prompt" or "messages", "answer" or "answers", "family"}. '
            "Required without --set and --samples."
        ),
    ] = None,
    set_name: Annotated[
        str | None,
        typer.Option(
            "--set",
            help="Ask a public data set instead of --questions: math, gsm8k, aqua_rat, hellaswag, coin_flip, imbue or "
            "pku_safe_rlhf.",
        ),
    ] = None,
    set_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="With --set: file with its records (.jsonl, .json or .parquet). Default: download the test split.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The samples file. If it exists, collecting continues where it stopped.")],
    provider: options.Provider = "openai",
    model: options.Model = None,
    n: Annotated[int, typer.Option(min=1, max=1024, help="Completions per question.")] = 16,
    temperature: options.Temperature = None,
    max_tokens: options.MaxTokens = None,
    param: options.Param = None,
    system: options.System = None,
    top_logprobs: Annotated[
        int | None, typer.Option(min=0, help="Alternatives per token. Default: as many as the provider returns.")
    ] = None,
    token_ids: Annotated[bool, typer.Option(help="Also store the token ids of the alternatives.")] = True,
    concurrency: options.Concurrency = 16,
    requests_per_minute: options.RequestsPerMinute = None,
    tokens_per_minute: options.TokensPerMinute = None,
    limits: options.Limits = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed that is sent to the provider.")] = None,
    price_prompt: Annotated[float | None, typer.Option(min=0, help="Price per million prompt tokens.")] = None,
    price_completion: Annotated[float | None, typer.Option(min=0, help="Price per million completion tokens.")] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="Limit on the cost of the whole file; needs both prices and --max-tokens.")
    ] = None,
    max_requests: Annotated[
        int | None, typer.Option(min=1, help="Limit on the number of requests, retries included.")
    ] = None,
    verifier: Annotated[
        str | None,
        typer.Option(
            help="Also let a model judge each distinct answer, for a head to learn from: self, or a provider and model "
            "such as openai/gpt-4.1-nano. Samples that the file has already are judged too."
        ),
    ] = None,
    verifier_mode: Annotated[
        Literal["p_true", "score"],
        typer.Option(
            help="With --verifier: p_true asks if an answer is right, in two calls; score rates it by each criterion, "
            "in one call each."
        ),
    ] = "p_true",
    criteria: Annotated[
        list[str] | None,
        typer.Option(help="With --verifier: a criterion of a good answer. May be given more than once."),
    ] = None,
    replies: Annotated[
        Path | None,
        typer.Option(help="Send no requests: import raw replies, or the output of a batch job, from this JSONL file."),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            help="Send no requests: import your own logs, in place of --questions: JSON lines of questions with their "
            "completions, or logs of lm-eval, OpenAI evals, Langfuse, LangSmith or vLLM. Also gzipped."
        ),
    ] = None,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch", help="Use the provider's Batch API: half the price, results within a day. Run again to resume."
        ),
    ] = False,
    forget_batches: Annotated[
        bool, typer.Option("--forget-batches", help="With --batch: abandon running batches, which are still charged.")
    ] = False,
    capture: Annotated[
        bool, typer.Option("--capture", help="Also store a local model's hidden states, in OUT.states.")
    ] = False,
    layers: Annotated[
        str | None,
        typer.Option(help="With --capture: hidden states to store, such as 16,24,28,32; 0 is the embedding."),
    ] = None,
    vocabulary: Annotated[
        bool, typer.Option("--vocabulary", help="With --capture: also store the logprobs of the whole vocabulary.")
    ] = False,
    parquet: Annotated[
        Path | None, typer.Option(help="At the end, also write all samples of the file to this Parquet file.")
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
    """Sample n answers to each of many questions, with their logprobs, into one file for training."""
    from swift_client import training

    # Options that contradict each other are refused before anything is read or sent.
    sampling = options.parse_params(
        param,
        option_names=[
            *signature(training.collect).parameters,
            "hidden_states",
            "forget_batches",
            "limits",
            "requests_per_minute",
            "tokens_per_minute",
            "verifier_mode",
            "criteria",
        ],
        temperature=temperature,
        max_tokens=max_tokens,
    )
    if verifier is None and (criteria or verifier_mode != "p_true"):
        raise ConfigurationError("--verifier-mode and --criteria need --verifier.", hint="Give --verifier as well.")
    if verifier is not None and (replies is not None or samples is not None or batch):
        raise ConfigurationError(
            "--verifier cannot be combined with --batch, --replies or --samples.",
            hint="Leave --verifier out; then run collect on the same file without them and with --verifier. It samples "
            "nothing that the file has.",
        )
    require_cluster(
        ray,
        ray_workers,
        refused={
            "--verifier": verifier, "--replies": replies, "--samples": samples, "--batch": batch,
            "--capture": capture, "--parquet": parquet, "--limits": limits,
            "--redact": redact, "--keep": keep != "all",
        },
    )  # fmt: skip
    source: Path | Sequence[StoredQuestion] = ()
    if samples is None:
        source = _question_source(questions, set_name, set_file)
    else:
        _refuse_beside_samples(
            {
                "--questions": questions, "--set": set_name, "--from": set_file, "--replies": replies,
                "--system": system, "--batch": batch, "--forget-batches": forget_batches, "--capture": capture,
                "--seed": seed,
                "--top-logprobs": top_logprobs, "--max-cost": max_cost, "--max-requests": max_requests,
                "--price-prompt": price_prompt, "--price-completion": price_completion, "--base-url": base_url,
                "--param": param, "--temperature": temperature, "--max-tokens": max_tokens, "--limits": limits,
                "--requests-per-minute": requests_per_minute, "--tokens-per-minute": tokens_per_minute,
            }
        )  # fmt: skip
    notes: tuple[str, ...] = ()
    if isinstance(source, Path) and not (ray and is_parquet(source)):
        from swift_client.dataset.questions import load_questions

        loaded = load_questions(source)
        source, notes = loaded.questions, loaded.notes
        output.warn(*notes)  # now, not at the end: nothing is paid for yet
    if system is not None:
        if isinstance(source, Path):
            raise ConfigurationError("--system needs questions in JSON lines.", hint="Add it to the messages instead.")
        source = _add_system_message(system, source)
    prices = _parse_prices(price_prompt, price_completion)
    if parquet is not None:
        from swift_client.dataset.export_parquet import export_parquet
        from swift_client.dataset.sample_columns import import_pyarrow

        output.check_output_path(parquet)
        import_pyarrow("The export to Parquet")
    if forget_batches and not batch:
        raise ConfigurationError("--forget-batches needs --batch.", hint="Give --batch as well.")
    if batch and (replies is not None or capture):
        raise ConfigurationError(
            "--batch cannot be combined with --replies or --capture.", hint="Leave one of them out."
        )
    if batch and (limits or requests_per_minute or tokens_per_minute):
        raise ConfigurationError(
            "--batch has no limits per minute.", hint="Leave them out: the provider sets the pace."
        )
    privacy: Any = {"redact": redact, "keep": keep}
    if samples is not None:
        from swift_client.collect.import_samples import import_samples

        result = import_samples(samples, out, provider=provider, model=model, token_ids=token_ids, **privacy)
    elif replies is not None:
        from swift_client.collect.import_replies import import_replies

        result = import_replies(
            source, replies, out, provider=provider, model=model, token_ids=token_ids, prices=prices, **privacy
        )
    else:
        # Options that were not given are not passed on: sampling is then left to the provider.
        settings = options.drop_none(
            provider=provider,
            model=model,
            n=n,
            hidden_states=_hidden_states_option(capture, layers, vocabulary),
            top_logprobs=top_logprobs,
            token_ids=token_ids,
            prices=prices,
            max_cost=max_cost,
            max_requests=max_requests,
            seed=seed,
            base_url=base_url,
            api_key=options.read_api_key(api_key_env),
            timeout=timeout,
        )
        settings |= sampling
        if ray is None:
            settings |= privacy
        if batch:
            from swift_client.collect.batch.collect import collect_batch

            with progress.batch_bar() as update:
                result = collect_batch(source, out, forget_batches=forget_batches, on_progress=update, **settings)
        elif ray is not None:
            from swift_client.cli.cluster.collect import collect_on_cluster

            result = collect_on_cluster(
                source,
                out,
                address=ray,
                workers=ray_workers or DEFAULT_WORKERS,
                settings=settings
                | {
                    "concurrency": concurrency,
                    "requests_per_minute": requests_per_minute,
                    "tokens_per_minute": tokens_per_minute,
                },
            )
        else:
            with progress.collect_bar() as update:
                result = training.collect(
                    source,
                    out,
                    limit=options.rate_limit(concurrency, requests_per_minute, tokens_per_minute, limits),
                    verifier=_verifier(verifier, verifier_mode, criteria),
                    on_progress=update,
                    **settings,
                )
    # All samples of the file are exported, those of earlier runs too.
    exported = None
    if parquet is not None:
        exported = export_parquet(out, parquet)
    if as_json:
        output.print_json({**result.to_dict(), "notes": [*notes, *result.notes], "exported": exported})
    else:
        _show(result, exported, parquet)
    # An incomplete run is an error for scripts, although its samples are safe.
    if result.stopped in ("max_cost", "max_requests"):
        return BUDGET
    return 0 if result.complete else PROVIDER


def _question_source(
    questions: Path | None, set_name: str | None, set_file: Path | None
) -> Path | Sequence[StoredQuestion]:
    """Return the questions file, or the questions of the set."""
    if set_file is not None and set_name is None:
        raise typer.BadParameter("--from gives the records of a --set. Give --set as well.")
    if questions is not None and set_name is None:
        return questions
    if questions is not None or set_name is None:
        raise typer.BadParameter("Give either --questions or --set. Or give --samples, to import completions.")
    from swift_client.dataset.paper_sets import load_set

    loaded = list(load_set(set_name, set_file))
    if not loaded:
        raise ConfigurationError(f"{set_file or set_name} contains no questions.", hint="Check the file.")
    return loaded


def _refuse_beside_samples(given: Mapping[str, object]) -> None:
    """Raise ConfigurationError for an option that an import of logs would ignore."""
    names = [name for name, value in given.items() if value]
    if names:
        raise ConfigurationError(
            f"--samples cannot be combined with {' and '.join(names)}: no request is sent.",
            hint=f"Leave out {' and '.join(names)}.",
        )


def _add_system_message(system: str, questions: Sequence[StoredQuestion]) -> list[StoredQuestion]:
    """Return the questions behind a system prompt."""
    return [
        replace(question, messages=tuple(options.add_system_message(system, question.messages)))
        for question in questions
    ]


def _parse_prices(prompt: float | None, completion: float | None) -> Prices | None:
    from swift_client.collect.collect import Prices

    if prompt is None and completion is None:
        return None
    if prompt is None or completion is None:
        raise ConfigurationError(
            "Only one of the two prices is given.",
            hint="Give both --price-prompt and --price-completion; a price may be 0.",
        )
    return Prices(prompt=prompt, completion=completion)


def _hidden_states_option(capture: bool, layers: str | None, vocabulary: bool) -> list[int | str] | bool | None:
    """Return the value of the sampling parameter ``hidden_states``."""
    if not capture:
        if layers is not None or vocabulary:
            raise ConfigurationError("--layers and --vocabulary need --capture.", hint="Give --capture as well.")
        return None
    if layers is None and not vocabulary:
        return True
    selected = ["layers"] if layers is None else options.parse_numbers("--layers", layers, low=0)
    return [*selected, *(["vocabulary"] if vocabulary else [])]


def _verifier(judge: str | None, mode: Literal["p_true", "score"], criteria: list[str] | None) -> Verifier | None:
    from swift_client.verify.verifier import Verifier

    return None if judge is None else Verifier(judge, mode=mode, criteria=criteria or None)


_STOP_MESSAGES = {
    "max_cost": "Stopped at --max-cost.",
    "max_requests": "Stopped at --max-requests.",
    "failures": "Stopped, because one question after another failed.",
}


def _show(result: CollectResult, exported: int | None, parquet: Path | None) -> None:
    usage = result.usage
    cost = "" if result.cost is None else f", cost {result.cost:.4g}"
    output.show(
        output.safe(
            f"{result.path}: {result.samples:,} of {result.wanted:,} samples of {result.questions:,} questions."
        ),
        Text(
            f"{result.added:,} are new, in {result.requests:,} requests and {result.elapsed:.1f} s. The file has used "
            f"{usage.prompt_tokens:,} prompt + {usage.completion_tokens:,} completion tokens{cost}.",
            style="dim",
        ),
    )
    if judgements := result.judgements:
        tokens = judgements.usage.prompt_tokens + judgements.usage.completion_tokens
        judge_cost = "" if judgements.cost is None else f", cost {judgements.cost:.4g}"
        output.show(
            output.safe(
                f"{judgements.judged:,} answers judged by {judgements.verifier}: {judgements.calls:,} calls, "
                f"{tokens:,} tokens{judge_cost}."
            )
        )
    if exported is not None:
        output.show(output.safe(f"{parquet}: {exported:,} rows."))
    messages = [*result.notes, *dict.fromkeys(str(failure.error) for failure in result.failures)]
    if result.stopped:
        messages.append(_STOP_MESSAGES[result.stopped])
    if result.samples < result.wanted:
        missing = result.wanted - result.samples
        messages.append(f"{missing:,} samples are missing; run the same command again to request them.")
    if result.judgements and (unjudged := result.judgements.unjudged_questions):
        messages.append(
            f"Judgements of {unjudged:,} questions are missing; run the same command again to ask for them."
        )
    output.warn(*messages[-10:])

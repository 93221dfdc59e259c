"""``collect``: completions of many questions into a samples file, or a samples file from replies you have already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from swift_client.cli import options, output
from swift_client.display import escape_unsafe
from swift_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from swift_client.collect.collect import CollectProgress, CollectResult, Prices

PROVIDER, BUDGET = 4, 5
"""Exit codes of a run that ended early; what it brought is in the file."""


def collect(
    questions: Annotated[Path, typer.Option(help='JSON lines: {"id", "prompt" or "messages", "answer", "family"}.')],
    out: Annotated[Path, typer.Option(help="The samples file; if it exists, collecting goes on where it stopped.")],
    provider: options.Provider = "openai",
    model: options.Model = None,
    n: Annotated[int, typer.Option(min=1, max=1024, help="Completions a question.")] = 8,
    temperature: Annotated[float | None, typer.Option(help="The provider's own, if not given.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    top_logprobs: Annotated[
        int | None, typer.Option(min=0, help="Alternatives a token; default: all there are.")
    ] = None,
    token_ids: Annotated[bool, typer.Option(help="Also keep which tokens the alternatives were.")] = True,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at once.")] = 16,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed asks for the same completions.")] = None,
    price_prompt: Annotated[float | None, typer.Option(min=0, help="Price of a million prompt tokens.")] = None,
    price_completion: Annotated[float | None, typer.Option(min=0, help="Price of a million completion tokens.")] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="The whole file never costs more; needs both prices and --max-tokens.")
    ] = None,
    max_requests: Annotated[
        int | None, typer.Option(min=1, help="Send no more requests than this, retries counted.")
    ] = None,
    replies: Annotated[
        Path | None,
        typer.Option(help="Send nothing: read raw replies, or a batch job's output, from these JSON lines."),
    ] = None,
    batch: Annotated[
        bool,
        typer.Option("--batch", help="By the provider's Batch API: half the price, within a day, resumed if killed."),
    ] = False,
    forget_batches: Annotated[
        bool,
        typer.Option("--forget-batches", help="With --batch: give up batches under way, although they are paid for."),
    ] = False,
    capture: Annotated[
        bool, typer.Option("--capture", help="Also keep a local model's hidden states, in OUT.states.")
    ] = False,
    layers: Annotated[
        str | None, typer.Option(help="Which of them, such as 16,24,28,32; 0 is the embedding. Default: all.")
    ] = None,
    vocabulary: Annotated[
        bool, typer.Option("--vocabulary", help="With --capture, keep the whole vocabulary's logprobs too.")
    ] = False,
    parquet: Annotated[Path | None, typer.Option(help="At the end, also write all samples of the file here.")] = None,
    base_url: options.BaseUrl = None,
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> int:
    """Draw n answers to each of many questions, with their logprobs, into one file to train on."""
    from swift_client import training

    prices = _parse_prices(price_prompt, price_completion)
    if forget_batches and not batch:
        raise ConfigurationError("--forget-batches is for --batch.", hint="Give it as well.")
    if batch and (replies is not None or capture):
        raise ConfigurationError(
            "--batch asks a provider's Batch API, which goes neither with --replies nor with --capture.",
            hint="Leave one of them out.",
        )
    if replies is not None:
        from swift_client.collect.import_replies import import_replies

        result = import_replies(
            questions, replies, out, provider=provider, model=model, token_ids=token_ids, prices=prices
        )
    else:
        sampling: dict[str, Any] = {
            "temperature": temperature,
            "max_tokens": max_tokens,
            "hidden_states": _hidden_states_option(capture, layers, vocabulary),
        }
        settings: dict[str, Any] = {
            "provider": provider,
            "model": model,
            "n": n,
            "top_logprobs": top_logprobs,
            "token_ids": token_ids,
            "prices": prices,
            "max_cost": max_cost,
            "max_requests": max_requests,
            "seed": seed,
            "base_url": base_url,
            "timeout": timeout,
            **{name: value for name, value in sampling.items() if value is not None},
        }
        if batch:
            from swift_client.cli.progress import batch_bar
            from swift_client.collect.batch.collect import collect_batch

            with batch_bar() as tell:
                result = collect_batch(questions, out, forget_batches=forget_batches, on_progress=tell, **settings)
        else:
            with _progress_bar() as show:
                result = training.collect(questions, out, concurrency=concurrency, on_progress=show, **settings)
    exported = None
    if parquet is not None:
        from swift_client.dataset.export_parquet import export_parquet

        exported = export_parquet(out, parquet)
    if as_json:
        output.print_json({**result.to_dict(), "exported": exported})
    else:
        _show(result, exported, parquet)
    if result.stopped in ("max_cost", "max_requests"):
        return BUDGET
    return 0 if result.complete else PROVIDER


def _parse_prices(prompt: float | None, completion: float | None) -> Prices | None:
    from swift_client.collect.collect import Prices

    if prompt is None and completion is None:
        return None
    if prompt is None or completion is None:
        raise ConfigurationError(
            "One price alone is given.", hint="Give both --price-prompt and --price-completion; 0 is a price."
        )
    return Prices(prompt=prompt, completion=completion)


def _hidden_states_option(capture: bool, layers: str | None, vocabulary: bool) -> list[int | str] | bool | None:
    """Return the field ``hidden_states``."""
    if not capture:
        if layers is not None or vocabulary:
            raise ConfigurationError("--layers and --vocabulary say what --capture keeps.", hint="Give it as well.")
        return None
    if layers is None and not vocabulary:
        return True
    chosen = ["layers"] if layers is None else options.parse_numbers("--layers", layers)
    return [*chosen, *(["vocabulary"] if vocabulary else [])]


@contextmanager
def _progress_bar() -> Iterator[Callable[[CollectProgress], None]]:
    """Show a progress bar on stderr, and after an interrupt what has become of the replies."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = output.stderr_console()
    columns = (
        TextColumn("collecting"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[spent]}"),
    )
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=None, spent="")
            yield lambda told: progress.update(
                task, total=told.wanted, completed=told.samples, spent=_format_spending(told)
            )
    except KeyboardInterrupt:
        console.print(Text("Interrupted. What has arrived is in the file; the same command goes on from there."))
        raise


def _format_spending(progress: CollectProgress) -> str:
    """Say what has been spent so far and what is expected in all."""
    parts = [f"{progress.usage.prompt_tokens + progress.usage.completion_tokens:,} tokens"]
    if progress.cost is not None:
        expected = "" if progress.expected_cost is None else f" of about {progress.expected_cost:.4g}"
        parts.append(f"spent {progress.cost:.4g}{expected}")
    if progress.failures:
        parts.append(f"{progress.failures} lost")
    return " · ".join(parts)


_STOP_MESSAGES = {
    "max_cost": "Stopped at --max-cost.",
    "max_requests": "Stopped at --max-requests.",
    "failures": "Stopped: question after question failed.",
}


def _show(result: CollectResult, exported: int | None, parquet: Path | None) -> None:
    usage = result.usage
    cost = "" if result.cost is None else f", cost {result.cost:.4g}"
    output.show(
        Text(
            escape_unsafe(
                f"{result.path}: {result.samples:,} of {result.wanted:,} samples of {result.questions:,} questions."
            )
        ),
        Text(
            f"{result.added:,} are new, in {result.requests:,} requests and {result.elapsed:.1f} s. The file took "
            f"{usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens{cost}.",
            style="dim",
        ),
    )
    if exported is not None:
        output.show(Text(escape_unsafe(f"{parquet}: {exported:,} rows.")))
    warnings = [*result.notes, *dict.fromkeys(str(failure.error) for failure in result.failures)]
    if result.stopped:
        warnings.append(_STOP_MESSAGES[result.stopped])
    if not result.complete:
        warnings.append(
            f"{result.wanted - result.samples:,} samples are missing; the same command asks for them again."
        )
    for line in warnings[-10:]:
        output.stderr_console().print(Text(escape_unsafe(line), style="yellow"))

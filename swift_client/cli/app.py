"""The command line: its commands, and errors as one sentence on stderr, an exit code and a JSON document."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from swift_client import __version__
from swift_client.cli import (
    best_of,
    calibrate,
    collect,
    curve,
    demo,
    doctor,
    evaluate,
    grade,
    output,
    plan,
    probe,
    providers,
    report,
    simulate,
    train,
)
from swift_client.errors import (
    AuthenticationError,
    BudgetExceededError,
    NoCompletionError,
    ProviderError,
    RejectedError,
    SwiftClientError,
)

USAGE, CONFIGURATION, PROVIDER, BUDGET, NO_COMPLETION = 2, 3, 4, 5, 6

app = typer.Typer(
    name="swift-client",
    help="Pick the best of N answers from a language model, using token log-probabilities.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_given: bool) -> None:
    if is_given:
        typer.echo(f"swift-client {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Pick the best of N answers from a language model, using token log-probabilities."""


app.command()(demo.demo)
app.command(name="best-of")(best_of.best_of)
app.command()(best_of.rank)
app.command(name="providers")(providers.providers)
app.command()(doctor.doctor)
app.command()(collect.collect)
app.command()(grade.grade)
app.command()(train.train)
app.command()(calibrate.calibrate)
app.command()(evaluate.evaluate)
app.command()(report.report)
app.command()(simulate.simulate)
app.command()(plan.plan)
app.command()(probe.probe)
app.command()(curve.curve)

# typer has its own copy of click since 0.2x; the base of its BadParameter is the usage error of the click in use.
_UsageError: Any = typer.BadParameter.__base__


def exit_code(error: SwiftClientError) -> int:
    """Return the exit code for an error, so that scripts can tell errors apart."""
    match error:
        case AuthenticationError():
            return CONFIGURATION
        case ProviderError():
            return PROVIDER
        case BudgetExceededError():
            return BUDGET
        case NoCompletionError() | RejectedError():
            return NO_COMPLETION
    return CONFIGURATION


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Only errors that are bugs in swift-client propagate."""
    as_json = "--json" in arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ► gets a question mark, not a traceback
    try:
        code = typer.main.get_command(app).main(list(arguments), prog_name="swift-client", standalone_mode=False)
    except _UsageError as error:
        path = error.ctx.command_path if error.ctx else "swift-client"
        facts = {"type": "UsageError", "message": error.format_message(), "hint": f"See: {path} --help"}
        return _fail(facts, USAGE, as_json)
    except SwiftClientError as error:
        return _fail(_error_facts(error), exit_code(error), as_json)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone: Python's last flush must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _error_facts(error: SwiftClientError) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "type": type(error).__name__,
        "message": str(error).replace(error.hint, "", 1).strip(),
        "hint": error.hint,
        "provider": error.provider,
        "status": error.status,
        "request_id": error.request_id,
        "retryable": error.retryable,
    }
    if isinstance(error, NoCompletionError):
        facts["causes"] = [_error_facts(cause) for cause in error.causes]
    if isinstance(error, BudgetExceededError):
        facts["best"] = error.best.to_dict() if error.best else None
    if isinstance(error, RejectedError):
        facts["selection"] = error.selection.to_dict()
    return facts


def _fail(error_facts: dict[str, Any], code: int, as_json: bool) -> int:
    if as_json:
        output.print_json({"error": {**error_facts, "exit_code": code}})
    output.warn(error_facts["message"], style="red")
    if error_facts["hint"]:
        output.warn(error_facts["hint"], style="")
    return code

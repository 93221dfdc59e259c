"""The command line: its commands, and errors as one sentence on stderr, an exit code and a JSON document."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

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
    options,
    output,
    plan,
    probe,
    providers,
    report,
    serve,
    simulate,
    train,
)
from swift_client.cli.cluster.option import fill_address
from swift_client.cli.command_words import CommandWords, find_command, option_flags
from swift_client.cli.error_facts import USAGE, error_facts, exit_code
from swift_client.cli.labels import feedback, grade
from swift_client.cli.maintenance import drift, prune, retrain, rollback
from swift_client.cli.ranking.command import rank
from swift_client.errors import SwiftClientError

app = typer.Typer(
    name="swift-client",
    help="Pick the best of N answers from a language model, using token log-probabilities.",
    no_args_is_help=True,
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


def _add_command(function: Callable[..., int | None], name: str | None = None) -> None:
    """Add a command, with the options that every command has."""

    @wraps(function)
    def command(*arguments: Any, quiet: bool = False, **settings: Any) -> int | None:
        return function(*arguments, **settings)  # the callback of --quiet has taken note of it

    hints = get_type_hints(function, include_extras=True)
    given = [
        parameter.replace(annotation=hints[parameter.name]) for parameter in signature(function).parameters.values()
    ]
    quiet = Parameter("quiet", Parameter.KEYWORD_ONLY, default=False, annotation=options.Quiet)
    vars(command)["__signature__"] = Signature([*given, quiet], return_annotation=hints["return"])
    command.__annotations__ = {**hints, "quiet": options.Quiet}
    app.command(name=name)(command)


_add_command(demo.demo)
_add_command(best_of.best_of, "best-of")
_add_command(rank)
_add_command(providers.providers)
_add_command(doctor.doctor)
_add_command(collect.collect)
_add_command(grade.grade)
_add_command(feedback.feedback)
_add_command(prune.prune)
_add_command(train.train)
_add_command(calibrate.calibrate)
_add_command(evaluate.evaluate)
_add_command(report.report)
_add_command(drift.drift)
_add_command(simulate.simulate)
_add_command(plan.plan)
_add_command(probe.probe)
_add_command(curve.curve)
_add_command(retrain.retrain)
_add_command(rollback.rollback)
_add_command(serve.serve)

# typer has its own copy of click since 0.2x; the base of its BadParameter is the usage error of the click in use.
_UsageError: Any = typer.BadParameter.__base__


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Only errors that are bugs in swift-client propagate."""
    as_json = "--json" in arguments
    group: Any = typer.main.get_command(app)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ► gets a question mark, not a traceback
    try:
        code = group.main(fill_address(arguments), prog_name="swift-client", standalone_mode=False)
    except _UsageError as error:
        path = error.ctx.command_path if error.ctx else "swift-client"
        facts = {"type": "UsageError", "message": error.format_message(), "hint": f"See: {path} --help"}
        return _fail(facts, USAGE, as_json)
    except SwiftClientError as error:
        name = find_command(arguments, group.commands)
        words = CommandWords(option_flags(group.commands[name].params if name else ()))
        return _fail(error_facts(error, words), exit_code(error), as_json)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone: Python's last flush must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _fail(facts: dict[str, Any], code: int, as_json: bool) -> int:
    if as_json:
        output.print_json({"error": {**facts, "exit_code": code}})
    output.print_lines(facts["message"], style="red")
    if facts["hint"]:
        output.print_lines(facts["hint"])
    return code

"""Options that several commands share, each with one meaning."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from swift_client.cli import output
from swift_client.errors import ConfigurationError, MissingApiKeyError

if TYPE_CHECKING:
    from swift_client.sampling import RateLimit
    from swift_client.types import Message
    from swift_client.verify.verifier import Verifier

AS_TRAINED, AS_ANSWER = "as the head was trained", "as --answer reads"
"""Defaults of --answer and --grade, as `--help` shows them."""

Method = Literal["auto", "best", "vote", "consensus"]


def complete_provider(start: str) -> list[str]:
    """Complete a provider's name from the tables alone: a shell waits for it, and imports take a second."""
    folder = resources.files("swift_client").joinpath("adapters", "providers")
    tables = (tomllib.loads(file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".toml"))
    entries = ((name, entry) for table in tables for name, entry in table.items() if name != "shared")
    return sorted(name for name, entry in entries if isinstance(entry, dict) and name.startswith(start))


def _note_quiet(context: typer.Context, is_quiet: bool) -> bool:
    context.meta[output.QUIET] = is_quiet
    return is_quiet


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=_note_quiet, help="Show no progress and no notes on stderr, only errors."),
]
Provider = Annotated[
    str, typer.Option(help="A provider from `swift-client providers`.", autocompletion=complete_provider)
]
ApiKeyEnv = Annotated[
    str | None, typer.Option(help="Environment variable with the API key. Default: the provider's own variable.")
]
BaseUrl = Annotated[str | None, typer.Option(help="URL of your own server, such as http://localhost:8000/v1.")]
Model = Annotated[str | None, typer.Option(help="Model name. Default: the provider's default model.")]
Redact = Annotated[
    list[str] | None,
    typer.Option(
        help="What to remove from all that is stored: mails, phones, cards, ibans or keys. May be given more than once."
    ),
]
Keep = Annotated[
    Literal["all", "arrays"],
    typer.Option(help="What to store of answers: all, or arrays: numbers and hashes without any text."),
]
Temperature = Annotated[float | None, typer.Option(help="Sampling temperature. Default: the provider's.")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="Maximum length of one answer, in tokens.")]
Param = Annotated[
    list[str] | None,
    typer.Option(
        help="Further field of the request, as name=value with JSON or text: --param top_k=20 --param "
        "reasoning_effort=none. May be given more than once."
    ),
]
System = Annotated[str | None, typer.Option(help="System prompt, sent as the first message.")]
Scorer = Annotated[
    str, typer.Option(help="How completions are scored, for example mean_logprob, self_certainty or random.")
]
Head = Annotated[
    str,
    typer.Option(
        help="Trained scorer (head): auto (one for this provider and model), none, or the name or file of a head."
    ),
]
Answer = Annotated[
    str,
    typer.Option(
        help="How answers are read: auto, number, boxed, choice, yes_no, json, text, tool_name, tool_call, none, or a "
        "regex."
    ),
]
AnswerAsTrained = Annotated[str, typer.Option(help="How answers are read; see `swift-client train --help`.")]
Grade = Annotated[
    str,
    typer.Option(
        help="How completions are compared with the correct answer: auto, number, math, boxed, choice, yes_no, json, "
        "text, tool_name, tool_call, exact, literal, or a regex. Labels stored in the file take precedence."
    ),
]
Select = Annotated[
    Method,
    typer.Option(
        help="vote: the answer with the most support; best: the highest score; consensus: the text that is most like "
        "the others."
    ),
]
Similarity = Annotated[
    str | None,
    typer.Option(
        help="How texts are compared for a consensus: token_f1 (default), chrf or content; best-of also "
        "embedding:PROVIDER/MODEL."
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        "--verifier", help="Let a model judge the answers: self, or a provider and model such as openai/gpt-4.1-nano."
    ),
]
VerifierMode = Annotated[
    Literal["auto", "p_true", "score", "pairwise"],
    typer.Option(
        help="p_true: is the answer correct; score: a grade per criterion; pairwise: which of two answers is better; "
        "auto: p_true for short answers, pairwise for long ones."
    ),
]
VerifierWhen = Annotated[
    Literal["doubt", "always"],
    typer.Option(
        help="doubt: judge only if the votes leave the leading answer in doubt; always: judge every question."
    ),
]
Criteria = Annotated[
    list[str] | None,
    typer.Option(
        help='For the judge: what makes an answer good, such as "It is polite." Default: it is correct. May be given '
        "more than once."
    ),
]
Reference = Annotated[
    str | None, typer.Option(help="For the judge: notes on this question, such as a known good answer.")
]
Concurrency = Annotated[int, typer.Option(min=1, help="Maximum number of concurrent requests.")]
RequestsPerMinute = Annotated[float | None, typer.Option(help="Start at most this many requests per minute.")]
TokensPerMinute = Annotated[
    float | None, typer.Option(help="Use at most this many tokens per minute, prompts and answers together.")
]
Limits = Annotated[
    str | None,
    typer.Option(
        help="Share both limits per minute, and refusals by the provider, with all commands that name the same file "
        "or Redis (redis://host:6379/0, extra 'redis'). Not with --ray, whose workers share one limit."
    ),
]
Timeout = Annotated[float, typer.Option(min=0.001, help="Timeout of one request, in seconds.")]
Seed = Annotated[int, typer.Option(min=0, help="Random seed: the same seed and samples give the same result.")]

Feedback = Annotated[
    bool,
    typer.Option(
        "--feedback",
        help="Use people's feedback on the choices that SAMPLES stores, weighted to stand for all choices; grades come "
        "first.",
    ),
]

SamplesOfHead = Annotated[
    list[Path], typer.Argument(help="Samples files from `swift-client collect`, or Parquet, of the head's model.")
]
SamplesOfModel = Annotated[
    list[Path], typer.Argument(help="Samples files from `swift-client collect`, or Parquet, of one model.")
]
Split = Annotated[
    str, typer.Option(help="Questions to use: the head's test, validation or train split, or all questions.")
]
Ns = Annotated[
    list[int] | None, typer.Option(min=1, help="Number of completions to choose from; may be given more than once.")
]
Subsets = Annotated[int, typer.Option(min=1, help="Random subsets of n completions per question.")]
TrainSamples = Annotated[
    list[Path] | None,
    typer.Option(help="Samples files whose training split is used to train the baselines WEPR, length and SWIFT."),
]
Trained = Annotated[bool, typer.Option(help="Train these three baselines and compare the head with them.")]
Layers = Annotated[
    str | None, typer.Option(help="Hidden states to read, such as 16,24,28,32. Default: all that were captured.")
]
Svg = Annotated[Path | None, typer.Option(help="Draw the result as a chart into this SVG file.")]


def drop_none(**values: Any) -> dict[str, Any]:
    """Return the values that were given."""
    return {name: value for name, value in values.items() if value is not None}


def rate_limit(
    concurrency: int, requests_per_minute: float | None, tokens_per_minute: float | None, limits: str | None
) -> RateLimit:
    """Return the limit of a command's requests. Raises ConfigurationError as ``RateLimit``."""
    from swift_client.sampling import RateLimit

    return RateLimit(
        concurrency, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute, shared=limits
    )


def parse_params(params: Sequence[str] | None, *, option_names: Iterable[str] = (), **given: object) -> dict[str, Any]:
    """Parse ``--param name=value`` and add the fields that have their own option.

    Args:
        params: texts; a value is JSON, or else text.
        option_names: names that are options of the command, besides the arguments of a reranker.
        given: the values of fields with their own option; None: not given.

    Raises:
        typer.BadParameter: a text is not name=value.
        ConfigurationError: a name is an option, or is given twice.
    """
    from swift_client.sampling import field_names

    fields = drop_none(**given)
    options = {*field_names.ARGUMENTS, *field_names.PLANNED_FIELDS, *option_names, "seed", "system"} - {"extra_body"}
    for param in params or ():
        name, equals, text = param.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"--param {param!r} is not name=value.")
        if name in options:
            raise ConfigurationError(
                f"--param {name} is not a field of the request.",
                hint="See --help for the command's options. A field of this name is sent by "
                f"""--param 'extra_body={{"{name}": ...}}'.""",
            )
        if name in fields:
            raise ConfigurationError(f"The field {name} is given twice.", hint="Give it once.")
        fields[name] = _parse_json_or_text(text)
    return fields


def _parse_json_or_text(text: str) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text


def create_verifier(
    judge: object,
    *,
    mode: Literal["auto", "p_true", "score", "pairwise"] = "auto",
    when: Literal["doubt", "always"] = "doubt",
    criteria: Sequence[str] | None = None,
    reference: str | None = None,
) -> Verifier | None:
    """Return the verifier that the options describe; None without ``--verifier``.

    Raises:
        ConfigurationError: an option for the judge is given and no judge, or its value is wrong.
    """
    if judge is None:
        if criteria or reference is not None:
            name = "criteria" if criteria else "reference"
            raise ConfigurationError(f"{name}= needs verifier=.", hint="Say which model judges, such as verifier=self.")
        return None
    from swift_client.validation import check_reference
    from swift_client.verify.verifier import Verifier

    check_reference(reference)
    return Verifier(judge, mode=mode, when=when, criteria=criteria or None)


def require_samples_files(paths: Iterable[Path]) -> None:
    """Raise ConfigurationError for the first file that does not exist, before libraries are imported for seconds."""
    from swift_client.dataset.sample_columns.locations import find_url
    from swift_client.store import require_samples_file

    for path in paths:
        if find_url(path) is None and not path.is_dir():  # a folder or a URL of Parquet files
            require_samples_file(path)


def add_system_message(system: str, messages: Sequence[Message]) -> list[Message]:
    """Return ``messages`` behind a system prompt. Raises ConfigurationError if they have one already."""
    if any(message.get("role") == "system" for message in messages):
        raise ConfigurationError("The messages already have a system prompt.", hint="Leave out --system.")
    return [{"role": "system", "content": system}, *messages]


def read_api_key(variable: str | None) -> str | None:
    """Return the key in an environment variable; None without ``--api-key-env``.

    Raises:
        MissingApiKeyError: the variable is not set, or empty.
    """
    if variable is None:
        return None
    if not (key := os.environ.get(variable, "").strip()):
        raise MissingApiKeyError(
            f"The environment variable {variable!r} is not set.",
            hint="--api-key-env takes the name of a variable that contains the key.",
        )
    return key


def parse_numbers(name: str, text: str, *, low: int = 1) -> tuple[int, ...]:
    """Parse whole numbers of at least ``low``, separated by commas or spaces.

    Raises:
        ConfigurationError: the text is anything else.
    """
    try:
        numbers = tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < low:
        raise ConfigurationError(f"{name} {text!r} is not a list of numbers from {low}.", hint="Write it as 2,2,4.")
    return numbers


def parse_layers(text: str | None) -> tuple[int, ...] | None:
    """Parse ``--layers``; None if it was not given."""
    return None if text is None else parse_numbers("--layers", text, low=0)


def parse_none(text: str) -> str | None:
    """Return an option's text, or None for "none"."""
    return None if text == "none" else text


def parse_answer(text: str) -> str | EllipsisType | None:
    """Parse ``--answer`` of commands that take a head; ``...`` stands for the head's own reader."""
    return ... if text == AS_TRAINED else parse_none(text)


def parse_grade(text: str) -> str | None:
    """Parse ``--grade``; None means that the answers are read as ``--answer`` says."""
    return None if text == AS_ANSWER else text

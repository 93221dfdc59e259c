"""Errors and notes in the words of the command: ``max_tokens=`` becomes ``--max-tokens``.

The package writes its messages for Python. The command shows the same messages, so they are translated in this one
place: arguments become the options of the command that is running, and what only Python can do is left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from swift_client.display import escape_unsafe
from swift_client.errors import ProviderError, SwiftClientError

# Options that have another name than the argument.
_ALIASES = {
    "api_key": "api_key_env",
    "max_concurrency": "concurrency",
    "ns": "n",
    "path": "set_file",
    "response_model": "schema",
}
# Phrases that are translated as a whole, since the command has no option for them or writes them in another way.
_PHRASES: tuple[tuple[str, str], ...] = (
    (r"\bBudget\((\w+)=\)", r"--budget-\1"),
    (r"\bBudget\((\w+)=\.\.\.\)", r"--budget-\1"),
    (r"\bBudget\((\w+)=([\d.]+)\)", r"--budget-\1 \2"),
    (r"\bPass prices=.*? to the reranker, or use ", "Use "),
    (r": Cascade\(\[reranker, stronger\]\)", ""),
    (
        r"It is in the error's \.selection; ask a person, or a stronger model \(Cascade\)\.",
        "--json shows it; ask a person or a stronger model.",
    ),
    (
        r"Lower min_completions=, raise max_retries= or deadline=, and see \.causes\.",
        "Run the command again; if the error persists, raise timeout=.",
    ),
    (r"; min_completions=\d+", ""),
    (r", set (\w+) or pass client=", r" or set \1"),
    (r" or pass client=", ""),
    (r"Pass your function as judge=\.", "Judges are Python functions: use another --scorer."),
    (r', or require_logprobs="auto" to choose by the answers alone', ""),
    (r"Give require_logprobs= to the reranker\.", "Logprobs are requested without it."),
    (r"Raise max_reply_bytes=, or ask\b", "Ask"),
    (r"longer than max_reply_bytes=([\w,]+)", r"longer than \1 bytes"),
    (r'load with dtype="\w+", ', ""),
    (r'load it with dtype="\w+" or "\w+", and check\b', "check"),
    (r"Give the same function as answer=", "Say how answers are read with answer="),
    (r" \(forget_batches=True\)", ""),
    (r" is not a sampling field of best_of\b", " cannot be set by --param"),
    (r"pass it in extra_body\b", """give --param 'extra_body={"name": value}'"""),
    (r'extra_body=\{"store": True\}', """--param 'extra_body={"store": true}'"""),
    (r"\bGive it to best_of as n=\.", "Use n=."),
    (r"\bGive them to best_of as the prompt\.", "Use PROMPT or messages=."),
    (r" is an argument of best_of alone\.", " is an option of best-of alone."),
    (r"\bbest_of\b(?![(=])", "best-of"),
    (r" cannot be in extra_body\.", " cannot be in --param extra_body."),
    (r", or a reranker(?=[.,])", ""),
    (r"^extra_body must\b", "--param extra_body must"),
    (r", a function from text to answer, or None\b", " or none"),
)
# Advice on options that some commands lack: alternatives of a sentence, and sentences, that are left out there.
_ABSENT_ADVICE: tuple[tuple[str, str, str], ...] = (
    ("max_concurrency", r"Lower max_concurrency=, or try\b", "Try"),
    ("timeout", r"Request fewer tokens, or raise timeout=", "Request fewer tokens"),
    ("timeout", r"; if the error persists, raise timeout=", ""),
    ("base_url", r"Check that base_url= is .*?\.(?= |$)", "Check that --provider names the API that wrote the reply."),
    ("base_url", r"; if the error persists, check base_url=", ""),
    ("base_url", r"; 'openai-compatible' with base_url= reaches any other server", ""),
    ("top_logprobs", r"Ask for that many with top_logprobs=", "Ask for that many with `swift-client collect`"),
)
_VALUE = r"""(?P<value>"[^"]*"|'[^']*'|\[[^\]]*\]|\([^)]*\)|[^\s,;:"'()\[\]]*[^\s,;:"'()\[\].])?"""
_ARGUMENT = re.compile(
    rf"(?<![\w.:\-/?&{{('\"=])(?P<name>[a-z]\w*)={_VALUE}|(?<=\()(?P<inner>[a-z]\w*)={_VALUE.replace('value', 'rest')}"
)
_PLAIN = re.compile(r"[\w./:+\-]+")


class CommandWords:
    """The words of one command.

    Args:
        flags: the flag of each option, such as ``--max-tokens``, by its name in Python.
    """

    def __init__(self, flags: Mapping[str, str]) -> None:
        self._flags = dict(flags)
        self._flags |= {name: flags[option] for name, option in _ALIASES.items() if option in flags}
        # Names without an underscore are words, such as "model" and "n".
        names = "|".join(re.escape(name) for name in sorted(self._flags, key=len, reverse=True) if "_" in name)
        self._bare_name = re.compile(rf"""(?<![\w"'`.{{/:-])(?:{names})(?![\w"'`=(])""") if names else None

    def translate(self, text: str) -> str:
        """Return a sentence of the package in the command's words."""
        for name, pattern, replacement in _ABSENT_ADVICE:
            if name not in self._flags:
                text = re.sub(pattern, replacement, text)
        for pattern, replacement in _PHRASES:
            text = re.sub(pattern, replacement, text)
        text = _ARGUMENT.sub(self._option, text)
        return self._bare_name.sub(lambda match: self._flags[match[0]], text) if self._bare_name else text

    def describe(self, error: SwiftClientError) -> str:
        """Return the text of an error; the words that a provider sent stay as they are."""
        text = str(error)
        for part in (error, *getattr(error, "causes", ())):
            is_ours = not isinstance(part, ProviderError) or "max_reply_bytes=" in part.message
            words = [part.message, part.hint] if is_ours else [part.hint]
            for sentence in filter(None, map(escape_unsafe, words)):
                text = text.replace(sentence, self.translate(sentence))
        return text

    def _option(self, match: re.Match[str]) -> str:
        name, value = (match["name"], match["value"]) if match["name"] else (match["inner"], match["rest"])
        flag = self._flags.get(name)
        if flag is None:
            return f"--param {match[0]}".replace('"', "") if value and self._is_field(name) else match[0]
        if value == "None":
            return f"no {flag}"
        if not value or value == "True":
            return flag
        plain = value.strip("\"'")
        return f"{flag} {plain if _PLAIN.fullmatch(plain) else value}"

    def _is_field(self, name: str) -> bool:
        from swift_client.sampling.field_names import KNOWN_FIELDS

        return "param" in self._flags and name in KNOWN_FIELDS


def option_flags(parameters: Iterable[Any]) -> dict[str, str]:
    """Return the flag of each option by its name in Python; the n of ``-n`` is ``--n``."""
    return {
        parameter.name: max(parameter.opts, key=len)
        for parameter in parameters
        if parameter.param_type_name == "option"
    }


def find_command(arguments: Iterable[str], names: Collection[str]) -> str | None:
    """Return the command that a command line starts, or None."""
    return next((argument for argument in arguments if argument in names), None)

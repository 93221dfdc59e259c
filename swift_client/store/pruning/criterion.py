"""The criterion of an erasure, and ages such as "30d"."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from datetime import timedelta

from swift_client.errors import ConfigurationError
from swift_client.store.records import key_digest, user_digest

_AGE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*([hdw])")
_SECONDS = {"h": 3_600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_ONE_HINT = "Give one of older_than=, question=, user= and key=."


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """The replies to erase: those stored before a time, of a question, or asked by a user or with a key.

    Attributes:
        before: Unix time in seconds; None unless age decides.
        question: Id of a stored question, or of a selection of it; None unless that decides.
        user: Digest of a user or of a key; None unless that decides.
        undated: Whether what has no stored time goes too; only with ``before``.
    """

    before: float | None = None
    question: str | None = None
    user: bytes | None = None
    undated: bool = False

    @classmethod
    def parse(
        cls,
        *,
        older_than: str | timedelta | None = None,
        question: str | None = None,
        user: str | None = None,
        key: str | None = None,
        undated: bool = False,
    ) -> Criterion:
        """Check the arguments of ``prune()``. Raises ConfigurationError."""
        texts = {"question": question, "user": user, "key": key}
        for name, text in texts.items():
            if text is not None and (not isinstance(text, str) or not text):
                raise ConfigurationError(f"{name}= must be an id, as text.", hint=_ONE_HINT)
        if [older_than, *texts.values()].count(None) != 3:
            raise ConfigurationError("An erasure has exactly one criterion.", hint=_ONE_HINT)
        if undated and older_than is None:
            raise ConfigurationError("undated= needs older_than=.", hint="Give an age too, such as older_than=30d.")
        if older_than is not None:
            return cls(before=time.time() - parse_age(older_than), undated=undated)
        if question is not None:
            return cls(question=question)
        return cls(user=user_digest(user) if user is not None else key_digest(str(key)))


def parse_age(age: str | timedelta) -> float:
    """Return the seconds of an age: "12h", "30d", "2w", or a timedelta. Raises ConfigurationError."""
    seconds = math.nan
    if isinstance(age, timedelta):
        seconds = age.total_seconds()
    elif isinstance(age, str) and (match := _AGE.fullmatch(age.strip())):
        seconds = float(match[1]) * _SECONDS[match[2]]
    if not seconds >= 0:
        raise ConfigurationError(
            f"older_than={age!r} is not an age.", hint="Write hours, days or weeks, such as 12h, 30d or 2w."
        )
    return seconds

"""Faults on the client's side for benchmarks/faults.py: functions of the user, stores, and calls that are cut short."""

from __future__ import annotations

import asyncio
import random
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, field_validator

from swift_client.store import SampleStore

HANG_SECONDS = 4.0
_DISK_BYTES = 40_000


@dataclass
class Scene:
    """What a hazard changes, and what it counts."""

    folder: Path
    rng: random.Random
    constructor: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the client."""
    call: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``best_of``."""
    around: AbstractContextManager[Any] = field(default_factory=nullcontext)
    """Entered while the calls run."""
    n_injected: int = 0
    """Faults so far."""
    per_call: bool = False
    """Whether each call counts as a fault."""
    cuts_short: str = ""
    """``cancel`` to cancel each call at a random moment, ``close`` to close the client once."""
    keeps_store: bool = False
    """Whether completions of calls that are cut short must be in the store."""
    release: threading.Event = field(default_factory=threading.Event)
    """Set in the end, to let hanging functions go."""

    def hang(self, *_: object) -> Any:
        """Hang, as a function that never returns; it returns after some seconds, for the benchmark's sake."""
        self.n_injected += 1
        self.release.wait(HANG_SECONDS)
        return []

    async def hang_async(self, *_: object) -> Any:
        """Hang without a thread."""
        self.n_injected += 1
        await asyncio.sleep(60)

    def fail(self, *_: object) -> Any:
        """Raise anything."""
        self.n_injected += 1
        errors = [
            ValueError("x"),
            KeyError(5),
            MemoryError(),
            OSError(28, "full"),
            TimeoutError("mine"),
            StopIteration(),
        ]
        exits = [SystemExit(3), KeyboardInterrupt(), RecursionError(), asyncio.CancelledError(), Exception("\x1b[31m")]
        raise self.rng.choice([*errors, *exits])

    def lie(self, *arguments: Any) -> Any:
        """Return anything but one number per completion."""
        self.n_injected += 1
        count = len(arguments[-1])
        per_completion = self.rng.choice([10**400, "x", float("nan"), None, [1], True, float("inf"), 1j])
        return self.rng.choice([None, [], {}, "text", object(), [1.0] * (count + 1), *([[per_completion] * count] * 4)])

    def read_badly(self, text: str) -> Any:
        """Return an answer that is not a text."""
        self.n_injected += 1
        return self.rng.choice([5, None, [], b"x", "", "\ud800", "x" * 100_000, object(), float("nan")])


def _use(**methods: str) -> Callable[[Scene], None]:
    """Return a hazard that passes methods of the scene to the client."""

    def hazard(scene: Scene) -> None:
        for argument, name in methods.items():
            scene.constructor[argument] = getattr(scene, name)

    return hazard


def _use_judge(name: str) -> Callable[[Scene], None]:
    def hazard(scene: Scene) -> None:
        scene.constructor |= {"judge": getattr(scene, name), "scorer": "judge"}

    return hazard


def _validate(name: str) -> Callable[[Scene], None]:
    """Return a hazard of a ``response_model`` with a validator."""

    def hazard(scene: Scene) -> None:
        class Answer(BaseModel):
            answer: int
            reference: str

            @field_validator("reference")
            @classmethod
            def check(cls, value: str) -> str:
                getattr(scene, name)()
                return value

        scene.call["response_model"] = Answer

    return hazard


def _object_answers(scene: Scene) -> None:
    """Ask for objects: replies may be damaged."""

    class Answer(BaseModel):
        answer: int
        reference: str

    scene.call["response_model"] = Answer


def _store(path: str, prepare: Callable[[Path], object]) -> Callable[[Scene], None]:
    """Return a hazard of a store that cannot be used."""

    def hazard(scene: Scene) -> None:
        target = scene.folder / f"{scene.rng.randrange(10**12)}{path}"
        prepare(target)
        scene.constructor["store"] = str(target)
        scene.per_call = True

    return hazard


def _full_disk(scene: Scene) -> None:
    """Let files grow to some kilobytes only, which SQLite meets as a full disk."""
    _working_store(scene)
    scene.around = _limited_files()
    scene.per_call = True


@contextmanager
def _limited_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_DISK_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _locked_store(scene: Scene) -> None:
    """Hold the file's lock while the calls run."""
    _working_store(scene)
    path = Path(str(scene.constructor["store"]))
    SampleStore(path, write=True).close()
    scene.around = _lock(path)
    scene.per_call = True


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def _working_store(scene: Scene) -> None:
    scene.constructor["store"] = str(scene.folder / f"{scene.rng.randrange(10**12)}.db")


def _cancel(scene: Scene) -> None:
    """Cancel calls at random moments; what had arrived is in the store."""
    _working_store(scene)
    scene.cuts_short, scene.keeps_store = "cancel", True


def _close(scene: Scene) -> None:
    """Close the client at a random moment; what had arrived is in the store."""
    _working_store(scene)
    scene.cuts_short, scene.keeps_store = "close", True


def _slow_key(scene: Scene) -> None:
    """Pass a function for the key that fails or hangs."""
    scene.constructor["api_key"] = scene.rng.choice([scene.hang, scene.hang_async, scene.fail, lambda: 5, lambda: ""])
    scene.per_call = True


HAZARDS: MappingProxyType[str, Callable[[Scene], None]] = MappingProxyType(
    {
        "judge_hangs": _use_judge("hang"),
        "judge_hangs_async": _use_judge("hang_async"),
        "judge_fails": _use_judge("fail"),
        "judge_lies": _use_judge("lie"),
        "external_hangs": _use(external="hang"),
        "external_fails": _use(external="fail"),
        "external_lies": _use(external="lie"),
        "scorer_hangs": _use(scorer="hang"),
        "scorer_fails": _use(scorer="fail"),
        "scorer_lies": _use(scorer="lie"),
        "reader_hangs": _use(answer="hang"),
        "reader_fails": _use(answer="fail"),
        "reader_lies": _use(answer="read_badly"),
        "on_event_fails": _use(on_event="fail"),
        "key_function": _slow_key,
        "validator_hangs": _validate("hang"),
        "validator_fails": _validate("fail"),
        "object_answers": _object_answers,
        "store_is_folder": _store("", lambda path: path.mkdir(exist_ok=True)),
        "store_without_folder": _store("/missing/x.db", lambda path: None),
        "store_of_junk": _store(".db", lambda path: path.write_bytes(b"not a database" * 99)),
        "store_of_zeros": _store(".db", lambda path: path.write_bytes(b"SQLite format 3\x00" + bytes(9000))),
        "store_locked": _locked_store,
        "store_works": _working_store,
        "cancelled": _cancel,
        "closed": _close,
        "disk_full": _full_disk,
    }
)
ALONE = frozenset({"disk_full"})
"""Hazards that change the whole process."""


def stored_texts(path: str) -> list[str]:
    """Return the texts of all completions in a samples file; none if it cannot be read."""
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5) as connection:
            rows = connection.execute("SELECT text FROM sample").fetchall()
        return [text for (text,) in rows]
    except sqlite3.Error:
        return []

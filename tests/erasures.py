"""Samples files full of texts that can be found again byte by byte, for tests of erasure."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swift_client.store import ReplyStore, RequestKey, StoredVerdict
from swift_client.store.selection_store import SelectionStore
from swift_client.types import Usage
from tests.generated import completion

STRINGS = shutil.which("strings")
VERDICT = StoredVerdict(value=0.5, confidence=0.9, from_text=False, prompt_tokens=7, completion_tokens=1, cost=None)
TABLES = ("question", "reply", "sample", "selection", "feedback", "verdict", "verifier_score")


def request_key(name: str, *, user: str | None = None, client_key: str | None = None, **fields: Any) -> RequestKey:
    """Return the request whose prompt has the mark of ``name``."""
    sampling = fields if user is None else {"user": user, **fields}
    messages = ({"role": "user", "content": f"{mark(name)}: what is it? " + 30 * "All about it. "},)
    return RequestKey(
        provider="p", model="m", base_url=None, messages=messages, top_logprobs=5, sampling=sampling,
        client_key=client_key,
    )  # fmt: skip


def mark(name: str) -> str:
    """Return a text that stands in everything that is stored about ``name``."""
    return f"<<secret of {name}>>"


def store_reply(
    store: ReplyStore, name: str, *, n: int = 2, first: int = 0, user: str | None = None, client_key: str | None = None,
    seconds: float | None = None,
) -> RequestKey:  # fmt: skip
    """Store a reply with everything that may be stored about it; ``seconds`` is the time that it gets."""
    key = request_key(name, user=user, client_key=client_key)
    completions = [completion(zlib.crc32(f"{name} {first + index}".encode()), tokens=9) for index in range(n)]
    for index, one in enumerate(completions):
        object.__setattr__(one, "text", f"{mark(name)} answer {first + index} " + index * 700 * "long ")
    store.save(key, completions, first_index=first, usage=Usage(calls=1)).result(timeout=20)
    facts = {"answer": f"{mark(name)} answer", "winner": 0, "notes": [mark(name)]}
    store.save_selection(
        f"choice {name} {first}", facts, completions, question_id=key.question.id, prompt=mark(name), served_as=None,
        users=key.user_digests,
    ).result(timeout=20)  # fmt: skip
    store.save_feedback(f"choice {name} {first}", True).result(timeout=20)
    store.save_verdict(f"verdict {name} {first}", VERDICT, question_id=key.question.id).result(timeout=20)
    with SelectionStore(store.path, write=True, shared=True) as file:
        file.add_verifier_scores(key.question.id, {first: 0.25}, verifier="judge")
    if seconds is not None:
        set_times(store.path, f"{name} {first}", key.question.id, first, seconds)
    return key


def set_times(path: Path, name: str, question_id: str, first: int, seconds: float) -> None:
    """Let a reply and all that is stored about it be of another time."""
    connection = sqlite3.connect(path, isolation_level=None)
    reply = "SELECT reply FROM sample WHERE question = ? AND number = ?"
    connection.execute(f"UPDATE reply_origin SET time = ? WHERE reply = ({reply})", (seconds, question_id, first))  # noqa: S608
    connection.execute("UPDATE selection SET time = ? WHERE id = ?", (seconds, f"choice {name}"))
    connection.execute("UPDATE verdict_origin SET time = ? WHERE id = ?", (seconds, f"verdict {name}"))
    connection.close()


def leave_traces(path: Path) -> None:
    """Change rows as ordinary use does, which leaves copies of them in free places of the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA secure_delete=OFF")
    for factor in (3, 1):
        connection.execute("UPDATE question SET answer = hex(zeroblob(?))", (200 * factor,))
        connection.execute("UPDATE selection SET prompt = substr(prompt || prompt || prompt, 1, ?)", (30 * factor,))
        connection.execute("UPDATE sample SET label = 1 - coalesce(label, 0)")
    connection.execute("INSERT OR REPLACE INTO question SELECT * FROM question")
    connection.execute("INSERT OR REPLACE INTO selection SELECT * FROM selection")
    connection.execute("ANALYZE")
    connection.close()


def counts(path: Path) -> dict[str, int]:
    """Return the number of rows by table."""
    connection = sqlite3.connect(path)
    try:
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES}  # noqa: S608
    finally:
        connection.close()


def require_whole(path: Path) -> None:
    """Fail if the file is damaged, or a row refers to another one that is missing."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for query in (
            "SELECT * FROM sample WHERE question NOT IN (SELECT id FROM question)",
            "SELECT * FROM sample WHERE reply NOT IN (SELECT id FROM reply)",
            "SELECT * FROM reply_origin WHERE reply NOT IN (SELECT id FROM reply)",
            "SELECT * FROM reply WHERE samples > 0 AND id NOT IN (SELECT reply FROM sample)",
        ):
            assert connection.execute(query).fetchall() == []
    finally:
        connection.close()


def marked(path: Path, names: Iterable[str]) -> set[str]:
    """Return the names whose mark is in the file or in a file beside it, by its bytes and by ``strings``.

    No connection of this process may be open: to read the file ends all its locks.
    """
    lock, end = path.parent / f"{path.name}-lock", time.monotonic() + 5
    while lock.exists() and time.monotonic() < end:  # the writing thread closes the file after its last write
        time.sleep(0.01)
    files = sorted(file for file in path.parent.glob(f"{path.name}*") if file != lock)
    data = b"\0".join(file.read_bytes() for file in files)
    if STRINGS:
        lines = subprocess.run([STRINGS, *map(str, files)], capture_output=True, check=True).stdout
        assert {name for name in names if mark(name).encode() in lines} <= {
            name for name in names if mark(name).encode() in data
        }
    return {name for name in names if mark(name).encode() in data}


def packed_pieces(path: Path, names: Mapping[str, str]) -> dict[str, list[bytes]]:
    """Return pieces of the packed arrays of each name's samples, by the id of its question."""
    connection = sqlite3.connect(path)
    pieces: dict[str, list[bytes]] = {}
    for name, question in names.items():
        for (arrays,) in connection.execute("SELECT arrays FROM sample WHERE question = ?", (question,)):
            pieces.setdefault(name, []).append(arrays[len(arrays) // 2 :][:24])
    connection.close()
    return pieces

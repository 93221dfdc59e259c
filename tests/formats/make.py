"""Write the samples file of the newest format from that of the one before: ``python -m tests.formats.make FOLDER``.

The files in this folder are never written again: code of today would write what code of today reads. A new format gets
a step here, and its file when it is released.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from swift_client.store import Meta, RequestKey, SampleStore, SelectionStore, StoredQuestion
from swift_client.store.account_store import FileAccountStore
from swift_client.store.records import StoredVerdict
from swift_client.store.usage_store import UsageStore, UsageWindow
from swift_client.store.verdict_store import VerdictStore
from swift_client.types import Usage
from tests.face.made import completions

QUESTIONS = ("q0", "q1")
VERIFIER = "fixed p_true v1"
VERDICT = StoredVerdict(value=0.75, confidence=0.5, from_text=False, prompt_tokens=9, completion_tokens=1, cost=0.001)
WINDOW = UsageWindow(number=7, started=1_000.0, requests=3, tokens=40, usd=0.25)
STATE = b"{}"
ASKED = RequestKey(
    provider="fixed", model="m", base_url=None, messages=({"role": "user", "content": "3 + 3?"},), top_logprobs=5,
    sampling={"user": "anne"}, client_key="team",
)  # fmt: skip
FACTS = {"answer": "4", "winner": 1, "accepted": None}


def samples(path: Path) -> None:
    """Write format 1: two questions with two completions each, and a label."""
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="fixed", model="m", top_logprobs=5))
        for number, name in enumerate(QUESTIONS):
            text = {"role": "user", "content": f"{name}: 2 + 2?"}
            store.add_questions([StoredQuestion(id=name, messages=(text,), answer="4", family="sums")])
            store.add_samples(name, completions(2, first=10 * number), usage=Usage(prompt_tokens=5, calls=1))
        store.set_labels({("q0", 1): 1.0})


def judgements(path: Path) -> None:
    """Add what makes a file format 2: a verifier's score of a sample, and a verdict."""
    with VerdictStore(path, write=True) as store:
        store.add_verifier_scores("q0", {0: 0.25}, verifier=VERIFIER)
        store.add_verdict("digest", VERDICT)


def counts(path: Path) -> None:
    """Add what makes a file format 3: the counts of a key."""
    store = UsageStore(path)
    store.update([("team", 60)], lambda windows: windows.update({("team", 60): WINDOW}))
    store.close()


def selections(path: Path) -> None:
    """Add what makes a file format 4: a selection, and feedback on it."""
    with SelectionStore(path, write=True) as store:
        store.add_selection("s1", FACTS, completions(2), question_id="q0", prompt="q0: 2 + 2?", served_as="best")
        store.set_feedback("s1", True)


def accounts(path: Path) -> None:
    """Add what makes a file format 5: the state of a limit that processes share."""
    store = FileAccountStore(path)
    store.update("rate", lambda state, now: (STATE, None))
    store.close()


def origins(path: Path) -> None:
    """Add what makes a file format 6: a reply, a selection and a verdict with their users and times."""
    with SelectionStore(path, write=True) as store:
        store.add_reply(ASKED, completions(1), first_index=0, usage=Usage(calls=1))
        question = ASKED.question.id
        store.add_selection("s2", FACTS, completions(2), question_id=question, prompt="", users=ASKED.user_digests)
        store.add_verdict("digest of another", VERDICT, question_id=question)


STEPS = (samples, judgements, counts, selections, accounts, origins)
"""What each format added, in order."""


def main(folder: Path) -> None:
    """Write ``samples-N.db``: the file of the format before with one step more."""
    newest = len(STEPS)
    STEPS[-1](Path(shutil.copy(folder / f"samples-{newest - 1}.db", folder / f"samples-{newest}.db")))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

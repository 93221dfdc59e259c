"""What is stored: private texts put in everywhere are in no file, not even in compressed blobs or a write-ahead log."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client import AsyncSwiftReranker, SwiftReranker, answers
from swift_client.collect.collect import collect
from swift_client.collect.import_samples import import_samples
from swift_client.dataset.add_answers import add_answers
from swift_client.dataset.stored import StoredGroups
from swift_client.errors import ConfigurationError
from swift_client.features.registry import FEATURES, RESPONSE_TERMS, response_terms, token_features
from swift_client.logprobs.checks import failed_check
from swift_client.monitoring.statistics import STATISTICS, question_statistics
from swift_client.redaction.policy import create_policy
from swift_client.store import SampleStore, SelectionStore, StoredQuestion
from tests.generated import completion
from tests.servers import FaultServer

MAIL, CARD, KEY = "jane.doe+x@example.org", "4111 1111 1111 1111", "sk-proj-abcDEF1234567890abcd"
PHONE, IBAN = "+49 171 5550123", "DE89 3704 0044 0532 0130 00"
SECRETS = (MAIL, CARD, KEY, PHONE, IBAN)
PRESETS = ["mails", "cards", "keys", "phones", "ibans"]
ALL = " / ".join(SECRETS)
# Pieces of the secrets that no other text here contains.
PIECES = (b"jane", b"4111", b"abcDEF", b"5550123", b"0532")
PROMPT = f"My data: {ALL}. What is 2 + 2?"
MESSAGES = [
    {"role": "system", "content": f"You know {MAIL}."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": PROMPT},
            {"type": "image_url", "image_url": {"url": f"https://x.test/{MAIL}.png"}},
        ],
    },
]
TOOL = {"type": "function", "function": {"name": "pay", "description": f"e.g. {CARD}", "parameters": {}}}


def stored_bytes(folder: Path) -> bytes:
    """Return the bytes of all files in a folder, and what their compressed blobs unfold to."""
    parts = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            parts.append(path.read_bytes())
            if parts[-1].startswith(b"SQLite format 3"):
                connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
                parts += [zlib.decompress(blob) for (blob,) in connection.execute("SELECT arrays FROM sample")]
                connection.close()
    return b"\0".join(parts)


def leaks(folder: Path) -> list[bytes]:
    data = stored_bytes(folder).lower()
    return [piece for piece in PIECES if piece.lower() in data]


@pytest.fixture
def server(fault_server: FaultServer) -> FaultServer:
    # The last one looks like the hash that a private answer leaves.
    hash_like = f"The answer is [answer:{MAIL}]"
    fault_server.answers = (f"{ALL}: the answer is 4", f"The answer is {CARD}", "The answer is 4", hash_like)
    return fault_server


def reranker(server: FaultServer, path: Path | str, **options: Any) -> SwiftReranker:
    settings = {"redact": PRESETS, "max_retries": 0, **options}
    return SwiftReranker("openai-compatible", "m", base_url=server.url, api_key=KEY, store=path, **settings)


@pytest.mark.parametrize("keep", ["all", "arrays"])
def test_nothing_private_is_in_any_file_of_a_store(server: FaultServer, tmp_path: Path, keep: str) -> None:
    path = tmp_path / "kept" / "samples.db"
    path.parent.mkdir()
    with reranker(server, path, keep=keep, verifier="self") as best:
        selection = best.best_of(
            MESSAGES, n=4, user=MAIL, tools=[TOOL], reference=f"Call {PHONE}.", response_model=None, stop=[MAIL]
        )
        best.feedback(selection.id, correct=True)
        # While another reads the file, its write-ahead log stays beside it.
        connection = sqlite3.connect(path)
        connection.execute("SELECT count(*) FROM sample").fetchone()
        best.best_of([*MESSAGES, {"role": "user", "content": f"{ALL}?"}], n=4)
        assert path.with_name("samples.db-wal").stat().st_size > 0
        assert leaks(tmp_path) == []
        connection.close()
    assert any(CARD in candidate.text for candidate in selection.candidates)  # the caller gets everything
    assert leaks(tmp_path) == []
    assert (b"the answer is 4" in stored_bytes(tmp_path).lower()) == (keep == "all")


def test_the_scan_finds_what_is_stored_without_redaction(server: FaultServer, tmp_path: Path) -> None:
    with reranker(server, tmp_path / "samples.db", redact=None) as best:
        best.best_of(MESSAGES, n=4, tools=[TOOL])

    assert leaks(tmp_path) == list(PIECES)


@pytest.mark.parametrize("keep", ["all", "arrays"])
def test_collected_and_imported_files_hold_nothing_private(server: FaultServer, tmp_path: Path, keep: str) -> None:
    questions = [StoredQuestion(id="q1", messages=tuple(MESSAGES), answer=CARD, family="f")]
    for name in ("first", "second"):  # the second run continues the first
        n = 4 if name == "first" else 6
        result = collect(
            questions, tmp_path / "c.db", provider="openai-compatible", model="m", base_url=server.url, api_key="k",
            n=n, redact=PRESETS, keep=keep, tools=[TOOL],
        )  # fmt: skip
        assert result.samples == n
    rows = [{"id": "a", "prompt": PROMPT, "answer": CARD, "completions": [{"text": ALL}, {"text": "4"}]}]
    import_samples(rows, tmp_path / "i.db", model="m", redact=PRESETS, keep=keep)

    assert leaks(tmp_path) == []


def test_a_run_that_would_store_more_than_the_file_keeps_is_refused_before_it_pays(
    server: FaultServer, tmp_path: Path
) -> None:
    def run(**options: Any) -> None:
        questions = [StoredQuestion(id="q1", messages=({"role": "user", "content": "q"},))]
        address = {"provider": "openai-compatible", "model": "m", "base_url": server.url, "api_key": "k"}
        collect(questions, tmp_path / "c.db", **address, **options)

    run(n=1, redact="mails")
    n_requests = len(server.requests)
    for options in ({}, {"redact": "cards"}):
        with pytest.raises(ConfigurationError, match="this would store more"):
            run(n=2, **options)
    assert len(server.requests) == n_requests


def test_private_answers_keep_their_labels_and_their_equality(server: FaultServer, tmp_path: Path) -> None:
    other = "5500 0000 0000 0004"
    server.answers = (f"The answer is {CARD}", f"The answer is {other}", f"The answer is {CARD}", "The answer is 4")
    path = tmp_path / "c.db"
    for keep in ("all", "arrays"):
        path = tmp_path / f"{keep}.db"
        collect(
            [StoredQuestion(id="q1", messages=({"role": "user", "content": "Which card?"},), answer=CARD)],
            path, provider="openai-compatible", model="m", base_url=server.url, api_key="k", n=4, redact=["cards"],
            keep=keep,
        )  # fmt: skip
        (group,) = StoredGroups([path])

        np.testing.assert_array_equal(group.labels, [1, 0, 1, 0])
        read = answers.read(*answers.texts_to_read(group.completions, "auto"))
        assert read.groups == (0, 1, 0, 2)


@pytest.mark.parametrize("keep", ["all", "arrays"])
def test_heads_read_the_same_numbers_from_redacted_completions(keep: str) -> None:
    policy = create_policy(lambda text: text.replace("word1", "[x]"), keep, answers.read_answer)
    assert policy is not None
    originals = [completion(seed, tokens=80, k=5) for seed in range(4)]
    stored = [policy.for_file(b"key").completion(original, "q") for original in originals]
    assert all("word1" not in "".join(kept.tokens) for kept in stored)

    names = [name for name in FEATURES if not name.endswith("_hash")]
    terms = [name for name in RESPONSE_TERMS if name != "agreement"]
    for read, rows in ((token_features, names), (response_terms, terms)):
        np.testing.assert_array_equal(read(stored, rows, k=5).values, read(originals, rows, k=5).values)


def test_lengths_of_texts_that_were_not_kept_are_unknown_to_the_drift_guard() -> None:
    policy = create_policy(None, "arrays", answers.read_answer)
    assert policy is not None
    originals = [completion(seed, tokens=40, k=5) for seed in range(4)]
    stored = [policy.for_file(b"key").completion(original, "q") for original in originals]

    before, after = question_statistics(originals), question_statistics(stored)
    is_unknown = np.isnan(after) & ~np.isnan(before)
    assert [name for name, unknown in zip(STATISTICS, is_unknown, strict=True) if unknown] == [
        name for name in STATISTICS if "characters" in name
    ]
    np.testing.assert_array_equal(after[~is_unknown], before[~is_unknown])


def test_stored_completions_have_logprobs_that_pass_the_checks(server: FaultServer, tmp_path: Path) -> None:
    with reranker(server, tmp_path / "plain.db", redact=None) as best:
        plain = best.best_of("q", n=4)
    for keep in ("all", "arrays"):
        with reranker(server, tmp_path / f"{keep}.db", keep=keep) as best:
            best.best_of("q", n=4)
        with SampleStore(tmp_path / f"{keep}.db") as store:
            ((_, samples),) = store.questions_with_samples()
        by_logprobs = {sample.completion.logprobs.tobytes(): sample.completion for sample in samples}
        for candidate in plain.candidates:
            original = candidate.completion
            stored = by_logprobs[original.logprobs.tobytes()]
            assert failed_check(stored) is None
            assert (stored.tokens == original.tokens) == (keep == "all" and stored.text == original.text)


def test_changed_completions_are_drawn_again_and_whole_ones_are_reused(server: FaultServer, tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    with reranker(server, path) as best:
        first = best.best_of(PROMPT, n=4)
        second = best.best_of(PROMPT, n=4)
        assert (first.reused, second.reused) == (0, 1)
        assert all("[" not in candidate.text for candidate in second.candidates)
    with reranker(server, tmp_path / "arrays.db", keep="arrays") as best:
        assert [best.best_of(PROMPT, n=4).reused for _ in range(2)] == [0, 0]


def test_a_failing_function_stores_nothing_and_a_note_says_so(server: FaultServer, tmp_path: Path) -> None:
    def fail(text: str) -> str:
        if MAIL in text:
            raise ValueError(text)
        return text

    with reranker(server, tmp_path / "samples.db", redact=fail) as best:
        selection = best.best_of(PROMPT, n=4)

    assert selection.text
    assert any("ValueError" in note and "nothing was stored" in note for note in selection.notes)
    assert not any(MAIL in note for note in selection.notes)
    assert leaks(tmp_path) == []


def test_a_slow_function_keeps_nobody_out_of_the_file(server: FaultServer, tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    n_locks = 0

    def write_beside(text: str) -> str:
        nonlocal n_locks
        for file in tmp_path.glob("*.db"):
            connection = sqlite3.connect(file, timeout=1, isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")  # fails if the file stays locked while this runs
            connection.execute("ROLLBACK")
            connection.close()
            n_locks += 1
        return text

    with reranker(server, path, redact=write_beside) as best:
        assert not any("stored" in note for note in best.best_of(MESSAGES, n=2).notes)
    questions = [StoredQuestion(id="q1", messages=tuple(MESSAGES), answer=CARD)]
    collect(
        questions, tmp_path / "c.db", provider="openai-compatible", model="m", base_url=server.url, api_key="k",
        n=1, redact=write_beside,
    )  # fmt: skip

    assert n_locks > 8


@pytest.mark.parametrize("keep", ["all", "arrays"])
def test_structured_answers_stay_different(server: FaultServer, tmp_path: Path, keep: str) -> None:
    mails = ("a@example.org", "b@example.org", "a@example.org")
    server.answers = tuple(f'{{"name": "Jane", "mail": "{mail}"}}' for mail in mails)
    properties = {"name": {"type": "string"}, "mail": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    path = tmp_path / "samples.db"
    with reranker(server, path, redact=["mails"], keep=keep) as best:
        assert best.best_of("Whose?", n=3, response_model=schema).parsed["mail"] == "a@example.org"

    with SelectionStore(path) as store:
        (question,), (selection,) = store.questions(), store.selections()
        texts = [sample.completion.text for sample in store.samples(question.id)]
    read = answers.read(texts, "json")
    assert read.groups == (0, 1, 0)
    assert selection.answer == read.values[0]


def test_reference_answers_that_are_added_later_are_redacted_too(tmp_path: Path) -> None:
    prompt = "What is the address?"
    rows = [{"id": "a", "prompt": prompt, "completions": [{"text": f"The answer is {MAIL}"}, {"text": "4"}]}]
    questions = [StoredQuestion(id="q", messages=({"role": "user", "content": prompt},), answer=(MAIL, "4"))]
    import_samples(rows, tmp_path / "preset.db", model="m", redact=["mails"])
    import_samples(rows, tmp_path / "function.db", model="m", redact=lambda text: text.replace(MAIL, "[mail]"))

    summary = add_answers(tmp_path / "preset.db", questions)
    assert (summary.matched, summary.right) == (1, 1)  # "4"; of the other nobody knows
    with pytest.raises(ConfigurationError, match="function of redact="):
        add_answers(tmp_path / "function.db", questions)
    assert leaks(tmp_path) == []


def test_a_file_is_wholly_redacted_or_not_at_all(server: FaultServer, tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    with reranker(server, path, redact=["mails"]) as best:
        best.best_of("q", n=1)
    for looser in ({"redact": None}, {"redact": ["cards"]}):
        with reranker(server, path, **looser) as best:
            (note, *_) = best.best_of(PROMPT, n=1).notes
            assert f"{path} leaves out mails, and this would store more. Pass the redact= and keep=" in note
    with reranker(server, path, redact=["mails", "cards"]) as best:
        assert best.best_of("q2", n=1).notes == ()

    plain = tmp_path / "plain.db"
    with reranker(server, plain, redact=None) as best:
        best.best_of("q", n=1)
    with reranker(server, plain) as best:
        assert any("stored without redact=" in note for note in best.best_of("q3", n=1).notes)


def test_ids_of_questions_cannot_be_computed_from_a_guessed_prompt(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def question_id(name: str, **options: Any) -> str:
        with reranker(server, tmp_path / name, **options) as best:
            best.best_of("q", n=1)
            assert best.best_of("q", n=1).reused == 1
        with SelectionStore(tmp_path / name) as store:
            (selection, _) = store.selections()
            (question,) = store.questions()
            assert selection.question_id == question.id
            return question.id

    server.answers = ("The answer is 4",)
    ids = [question_id("a.db", redact=None), question_id("b.db"), question_id("c.db")]
    assert len(set(ids)) == 3

    monkeypatch.setenv("SWIFT_CLIENT_STORE_KEY", "s3cret")
    question_id("d.db")
    monkeypatch.setenv("SWIFT_CLIENT_STORE_KEY", "another")
    with reranker(server, tmp_path / "d.db") as best:
        assert any("SWIFT_CLIENT_STORE_KEY" in note for note in best.best_of("q", n=1).notes)


def test_hidden_states_are_refused_since_they_give_the_text_back(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="give the text back"):
        collect([], tmp_path / "c.db", provider="openai", redact="mails", hidden_states=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"redact": "names"}, "no preset 'names'"),
        ({"redact": ["mails", 3]}, "no preset 3"),
        ({"redact": [["mails"]]}, r"no preset \['mails'\]"),
        ({"redact": lambda text: 3}, "returned int"),
        ({"keep": "texts"}, "keep='texts' is unknown"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_sent(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        AsyncSwiftReranker("openai", "m", **options)


def test_a_long_secret_at_the_cut_of_a_prompt_leaves_no_piece(server: FaultServer, tmp_path: Path) -> None:
    """Prompts and answers are cut after redaction, else half a card number would be left."""
    with reranker(server, tmp_path / "samples.db") as best:
        best.best_of("x" * 1992 + " " + CARD + "?", n=1)

    assert leaks(tmp_path) == []


def test_logs_and_errors_of_the_store_quote_nothing(
    server: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="swift_client")
    server.answers = (f"The answer is {CARD}",)
    with reranker(server, tmp_path / "samples.db") as best:
        best.best_of(MESSAGES, n=4)

    assert not any(secret in caplog.text for secret in SECRETS)

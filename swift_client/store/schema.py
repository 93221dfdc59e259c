"""The tables of a samples file, by the format that added them."""

from __future__ import annotations

from collections.abc import Mapping

# Statements that create the tables of format 1. A file with any other table, view or trigger is refused.
_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE question (id TEXT PRIMARY KEY, messages TEXT NOT NULL, answer TEXT, family TEXT)",
    "CREATE TABLE reply (id INTEGER PRIMARY KEY, question TEXT NOT NULL, seed INTEGER, prompt_tokens INTEGER NOT NULL, "
    "completion_tokens INTEGER NOT NULL, estimated INTEGER NOT NULL, samples INTEGER NOT NULL, cost REAL)",
    "CREATE TABLE sample (question TEXT NOT NULL, number INTEGER NOT NULL, reply INTEGER NOT NULL, text TEXT NOT NULL, "
    "finish_reason TEXT NOT NULL, arrays BLOB NOT NULL, label REAL, UNIQUE (question, number))",
)
# Statements that add the tables of format 2: judgements of samples, and verdicts by a digest of what was asked.
_JUDGEMENT_SCHEMA = (
    "CREATE TABLE verifier_score (question TEXT NOT NULL, number INTEGER NOT NULL, verifier TEXT NOT NULL, "
    "score REAL NOT NULL, PRIMARY KEY (question, number, verifier))",
    "CREATE TABLE verdict (id TEXT PRIMARY KEY, value REAL NOT NULL, confidence REAL NOT NULL, "
    "from_text INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost REAL)",
)
# Statements that add the tables of format 3: counts of a service's keys and models, per window of ``seconds``.
_USAGE_SCHEMA = (
    "CREATE TABLE key_usage (name TEXT NOT NULL, seconds INTEGER NOT NULL, number INTEGER NOT NULL, "
    "started REAL NOT NULL, requests INTEGER NOT NULL, tokens INTEGER NOT NULL, usd REAL NOT NULL, "
    "reserved_tokens REAL NOT NULL, reserved_usd REAL NOT NULL, PRIMARY KEY (name, seconds)) WITHOUT ROWID",
)
# Statements that add the tables of format 4: selections by their id, and feedback on them.
_SELECTION_SCHEMA = (
    "CREATE TABLE selection (id TEXT PRIMARY KEY, question TEXT NOT NULL, time REAL NOT NULL, served_as TEXT, "
    "prompt TEXT NOT NULL, number INTEGER, numbers TEXT NOT NULL, facts TEXT NOT NULL)",
    "CREATE TABLE feedback (id TEXT PRIMARY KEY, correct INTEGER NOT NULL, time REAL NOT NULL)",
)
# Statements that add the tables of format 5: states of limits that processes share, as JSON.
_ACCOUNT_SCHEMA = ("CREATE TABLE account (name TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID",)
# Statements that add the tables of format 6: when replies and verdicts were stored, and for whom replies and selections
# were. ``user`` is a digest (``records.user_digests()``), or empty; ``question`` is empty if it is unknown.
_ORIGIN_SCHEMA = (
    "CREATE TABLE reply_origin (reply INTEGER NOT NULL, user BLOB NOT NULL, time REAL NOT NULL, "
    "PRIMARY KEY (reply, user)) WITHOUT ROWID",
    "CREATE TABLE selection_user (id TEXT NOT NULL, user BLOB NOT NULL, PRIMARY KEY (id, user)) WITHOUT ROWID",
    "CREATE TABLE verdict_origin (question TEXT NOT NULL, id TEXT NOT NULL, time REAL NOT NULL, "
    "PRIMARY KEY (question, id)) WITHOUT ROWID",
)
# Tables that each format adds, by its number, which is stored in ``user_version``. A file gets the tables of a format
# when they are first written to.
ADDED_TABLES: Mapping[int, tuple[str, ...]] = {
    1: _SCHEMA,
    2: _JUDGEMENT_SCHEMA,
    3: _USAGE_SCHEMA,
    4: _SELECTION_SCHEMA,
    5: _ACCOUNT_SCHEMA,
    6: _ORIGIN_SCHEMA,
}
JUDGEMENTS, USAGE, SELECTIONS, ACCOUNTS, ORIGINS = 2, 3, 4, 5, 6  # formats by the tables that they add

"""The samples file: questions, and the completions that were paid for, in one SQLite file."""

from swift_client.store.asked import Asked
from swift_client.store.batches import BatchStore
from swift_client.store.records import Meta, Sample, Spent, StoredQuestion
from swift_client.store.replies import ReplyStore
from swift_client.store.samples import SampleStore
from swift_client.store.states import Layout, StateFile

__all__ = [
    "Asked",
    "BatchStore",
    "Layout",
    "Meta",
    "ReplyStore",
    "Sample",
    "SampleStore",
    "Spent",
    "StateFile",
    "StoredQuestion",
]

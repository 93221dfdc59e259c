"""Questions and the completions that were paid for: in one SQLite file, the samples file; ``redis/``: in Redis."""

from swift_client.store.account_store import FileAccountStore
from swift_client.store.answer_store import AnswerStore
from swift_client.store.batch_store import BatchStore
from swift_client.store.hidden_states import StateFile, StateLayout
from swift_client.store.pruning import PruneResult, prune
from swift_client.store.records import (
    Meta,
    ReferenceAnswer,
    RequestKey,
    Sample,
    SampleTotals,
    StoredQuestion,
    StoredVerdict,
)
from swift_client.store.reply_cache import ReplyStore
from swift_client.store.sample_store import SampleStore
from swift_client.store.selection_store import (
    ReviewedSelection,
    SelectionStore,
    ShownSelection,
    StoredFeedback,
    StoredSelection,
)
from swift_client.store.sqlite import require_samples_file
from swift_client.store.usage_store import UsageStore, UsageWindow, WindowKey

__all__ = [
    "AnswerStore",
    "BatchStore",
    "FileAccountStore",
    "Meta",
    "PruneResult",
    "ReferenceAnswer",
    "ReplyStore",
    "RequestKey",
    "ReviewedSelection",
    "Sample",
    "SampleStore",
    "SampleTotals",
    "SelectionStore",
    "ShownSelection",
    "StateFile",
    "StateLayout",
    "StoredFeedback",
    "StoredQuestion",
    "StoredSelection",
    "StoredVerdict",
    "UsageStore",
    "UsageWindow",
    "WindowKey",
    "prune",
    "require_samples_file",
]

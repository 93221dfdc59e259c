"""The stores of a virtual model: one for all its requests, or one for every tenant."""

from __future__ import annotations

from swift_client.redaction.policy import StoragePolicy
from swift_client.reranker.config import resolve_store
from swift_client.server.config import TENANT
from swift_client.store import AnswerStore


class TenantStores:
    """Opens a store per tenant when its first request comes; nothing of one tenant is found by another.

    Args:
        pattern: path or URL with ``TENANT`` in it.
        policy: what is stored of texts; None for everything.

    Raises:
        ConfigurationError: the pattern cannot be used.
    """

    def __init__(self, pattern: str, policy: StoragePolicy | None) -> None:
        self._pattern, self._policy = pattern, policy
        self._stores: dict[str, AnswerStore] = {}
        self._create("tenant")  # opens nothing

    def store(self, tenant: str) -> AnswerStore:
        """Return the store of a tenant."""
        if tenant not in self._stores:
            self._stores[tenant] = self._create(tenant)
        return self._stores[tenant]

    def close(self) -> None:
        """Close idle connections; the next use opens new ones."""
        for store in self._stores.values():
            store.close()

    def _create(self, tenant: str) -> AnswerStore:
        store = resolve_store(self._pattern.replace(TENANT, tenant), self._policy)
        if store is None:
            raise ValueError("a path or a URL always names a store")
        return store

"""The providers as data. A row holds what was known on its date; what a reply shows wins over it.

Evidence words: *recording* (real bytes read), *source* (server or SDK code read), *documentation*, *probe* (a dated
third-party live test), *issue thread*, *prior* (common knowledge that nobody re-checked).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from swift_client.adapters import rows_hosts, rows_local, rows_models, rows_servers
from swift_client.adapters.provider import Provider

PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {row.name: row for row in (*rows_models.ROWS, *rows_hosts.ROWS, *rows_servers.ROWS, *rows_local.ROWS)}
)
"""Name → row."""

"""The providers as data. A row holds what was known on its date; what a reply shows wins over it.

Evidence words: *recording* (real bytes read), *source* (server or SDK code read), *documentation*, *probe* (a dated
third-party live test), *issue thread*, *prior* (common knowledge that nobody re-checked).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from swift_client.adapters.providers import hosts, in_process, model_vendors, self_hosted
from swift_client.adapters.providers.provider import Provider

PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        row.name: row
        for row in (*model_vendors.MODEL_VENDORS, *hosts.HOSTS, *self_hosted.SELF_HOSTED, *in_process.IN_PROCESS)
    }
)
"""Name → row."""

"""Providers, and how to reach them: the provider table, wire formats (codecs), transport, local models.

To add a provider with OpenAI's API, add one entry to a TOML file of ``providers/`` and one fixture to the tests.
Importing this package loads neither openai nor httpx2 and opens no connection.
"""

from swift_client.adapters.codecs import CODECS, Codec, load_codec
from swift_client.adapters.connect import Transports, connect, resolve
from swift_client.adapters.providers import PROVIDERS
from swift_client.adapters.providers.custom import CustomProvider, CustomTransport
from swift_client.adapters.providers.provider import Capabilities, Provider, Reply, Request, capabilities_of
from swift_client.adapters.transport.http import Transport

__all__ = [
    "CODECS",
    "PROVIDERS",
    "Capabilities",
    "Codec",
    "CustomProvider",
    "CustomTransport",
    "Provider",
    "Reply",
    "Request",
    "Transport",
    "Transports",
    "capabilities_of",
    "connect",
    "load_codec",
    "resolve",
]

"""Keys of clients: made once, stored as salted hashes, checked in constant time.

A key is ``sk-NAME.SECRET`` with 256 random bits of secret. Its hash is scrypt (RFC 7914) with a salt of its own. The
name finds the hash, so that checking a key takes one computation, however many keys there are.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from swift_client.errors import ConfigurationError
from swift_client.server.config import KeyConfig

_COST, _BLOCK, _PARALLEL = 2**12, 8, 1  # about 10 ms and 4 MB: the secret is random, so no dictionary helps
_HASH = re.compile(r"scrypt\$(\d{1,8})\$(\d{1,3})\$(\d{1,3})\$([\w-]{16,88})\$([\w-]{43})")
_KEY = re.compile(r"sk-([A-Za-z0-9_-]{1,64})\.([\w-]{20,100})")
_MAX_COST = 2**17
_REMEMBERED = 4096  # keys whose check is not repeated


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A key for a client, shown once, and its hash for the configuration file."""

    key: str
    hash: str


def create_key(name: str) -> NewKey:
    """Return a new random key for the client ``name``. Raises ConfigurationError for a name that keys cannot have."""
    key = f"sk-{name}.{secrets.token_urlsafe(32)}"
    if not _KEY.fullmatch(key):
        raise ConfigurationError(f"{name!r} cannot be a key's name.", hint="Use letters, digits, - and _.")
    salt = secrets.token_bytes(16)
    digest = _derive(key, salt, _COST, _BLOCK, _PARALLEL)
    return NewKey(key=key, hash=f"scrypt${_COST}${_BLOCK}${_PARALLEL}${_encode(salt)}${_encode(digest)}")


class ClientKeys:
    """The keys of a configuration. Thread-safe.

    Raises:
        ConfigurationError: a hash is not one that ``create_key()`` makes.
    """

    def __init__(self, keys: Mapping[str, KeyConfig]) -> None:
        self._hashes = {name: _parse_hash(name, key.hash) for name, key in keys.items()}
        self._verified: OrderedDict[bytes, str] = OrderedDict()  # SHA-256 of a key to its name
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._hashes)

    def remembered_name(self, key: str) -> str | None:
        """Return the name of a key that was verified before; None for any other."""
        with self._lock:
            return self._verified.get(_fingerprint(key))

    def verify(self, key: str) -> str | None:
        """Return the name of a valid key; None for any other. Takes about 10 ms for a key with a known name."""
        match = _KEY.fullmatch(key)
        row = self._hashes.get(match[1]) if match else None
        if match is None or row is None:
            return None
        salt, digest, cost = row
        if not hmac.compare_digest(_derive(key, salt, *cost), digest):
            return None
        with self._lock:
            self._verified[_fingerprint(key)] = match[1]
            while len(self._verified) > _REMEMBERED:
                self._verified.popitem(last=False)
        return match[1]


def _fingerprint(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _parse_hash(name: str, text: str) -> tuple[bytes, bytes, tuple[int, int, int]]:
    match = _HASH.fullmatch(text)
    cost = (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)
    if match is None or not (2 <= cost[0] <= _MAX_COST and cost[0].bit_count() == 1 and 1 <= cost[1] * cost[2] <= 64):
        raise ConfigurationError(
            f"[keys.{name}]: the hash is not valid.", hint=f"Make one with: swift-client serve --new-key {name}"
        )
    return _decode(match[4]), _decode(match[5]), cost


def _derive(key: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    memory = 128 * block * (cost + parallel + 2) + (1 << 20)
    return hashlib.scrypt(key.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=memory, dklen=32)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

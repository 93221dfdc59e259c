"""Hashes of ids with a key, so that nobody can compute them from a prompt that they guess."""

from __future__ import annotations

import hmac
import os
import re

KEY_VARIABLE = "SWIFT_CLIENT_STORE_KEY"  # environment variable with a secret that is in no file


def hash_id(key: bytes, id: str) -> str:
    """Return an id that is a hash of what was asked as a hash with a key: who guesses the prompt cannot compute it.

    Ids of the user's own stay as they are.
    """
    match = re.fullmatch("(asked-|)([0-9a-f]{32}(?:[0-9a-f]{32})?)", id)
    return id if match is None else match[1] + hmac.digest(key, id.encode(), "sha256").hex()[: len(match[2])]


def secret_key(salt: bytes) -> bytes:
    """Return the key of hashes: the salt, together with the secret of ``KEY_VARIABLE`` if that is set."""
    secret = os.environ.get(KEY_VARIABLE)
    return hmac.digest(secret.encode(), salt, "sha256") if secret else salt

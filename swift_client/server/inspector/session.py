"""Sessions of the inspector: a signed cookie after a key was given, and tokens of forms against forged requests.

A cookie is ``NAME.EXPIRY.NONCE.SIGNATURE``; it holds no key. The signature is HMAC-SHA-256 with the secret that the
processes of one service share (``multiprocessing`` passes it to workers) over the cookie and the key's hash, so that a
session ends with its key, and with the service.
"""

from __future__ import annotations

import hashlib
import hmac
import multiprocessing
import secrets
import time
from collections.abc import Callable, Mapping

from swift_client.server.config import KeyConfig

COOKIE = "swift_ui"
SECONDS = 8 * 3600  # of a session
_MAX_COOKIE = 300  # characters


class Sessions:
    """Makes and checks cookies and form tokens.

    Args:
        secret: default: the secret of this process and its workers.
        clock: Unix time in seconds.
    """

    def __init__(self, secret: bytes | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret or bytes(multiprocessing.current_process().authkey)
        self._clock = clock

    def create(self, name: str, keys: Mapping[str, KeyConfig]) -> str:
        """Return the cookie of a new session of the key ``name``."""
        body = f"{name}.{int(self._clock()) + SECONDS}.{secrets.token_urlsafe(18)}"
        return f"{body}.{self._sign('session', body, keys[name].hash)}"

    def check(self, cookie: str, keys: Mapping[str, KeyConfig]) -> str | None:
        """Return the name of the key that a session began with; None if it is not valid any more."""
        body, _, signature = cookie.rpartition(".")
        name, _, rest = body.partition(".")
        key = keys.get(name)
        if key is None or not key.ui or len(cookie) > _MAX_COOKIE:
            return None
        if not hmac.compare_digest(self._sign("session", body, key.hash).encode(), signature.encode()):
            return None
        return name if int(rest.partition(".")[0]) > self._clock() else None

    def form_token(self, cookie: str) -> str:
        """Return the token that forms carry in the session of ``cookie``; empty: in no session."""
        return self._sign("form", cookie)

    def check_form_token(self, token: str, cookie: str) -> bool:
        """Return True if a form was made in the session of ``cookie``."""
        return hmac.compare_digest(self.form_token(cookie).encode(), token.encode("utf-8", "replace"))

    def _sign(self, *parts: str) -> str:
        message = "\0".join(parts).encode("utf-8", "replace")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()

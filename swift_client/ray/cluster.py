"""Connection to a cluster: the library, its start, and errors of workers as themselves."""

from __future__ import annotations

import logging
import os
from typing import Any

from swift_client.errors import ConfigurationError, MissingExtraError, SwiftClientError

_MIN_CPUS = 4  # logical CPUs of a local cluster: actors that hold every CPU leave none to the readers
NAMESPACE = "swift_client"  # of named actors


def import_ray() -> Any:
    """Return the library with ``ray.data``. Raises MissingExtraError if it is not installed."""
    try:
        import ray
        import ray.data
    except ImportError as missing:
        raise MissingExtraError.needs("ray", "Work on a cluster") from missing
    return ray


def connect_cluster(address: str | None = None, *, is_quiet: bool = False) -> Any:
    """Return the library, connected to a cluster; a connection that exists is used.

    Args:
        address: of a running cluster, such as "auto" or "ray://host:10001"; None starts one on this machine, with more
            CPUs than it may have: workers that wait for replies need few, and those that read the questions need one.
        is_quiet: print no log lines, neither of Ray nor of the workers.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigurationError: there is no cluster at the address, or none can be started.
    """
    ray = import_ray()
    if not ray.is_initialized():
        try:
            local = {} if address else {"include_dashboard": False, "num_cpus": max(_MIN_CPUS, os.cpu_count() or 1)}
            quiet = {"log_to_driver": False, "logging_level": logging.ERROR} if is_quiet else {}
            # "local": without an address Ray would look for a cluster in the environment and in its files.
            ray.init(address=address or "local", namespace=NAMESPACE, **local, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            if address is None:
                raise ConfigurationError(
                    f"Ray cannot start on this machine: {error}.",
                    hint="If the path of its sockets is too long, set RAY_TMPDIR to a short one, such as /tmp.",
                ) from error
            raise ConfigurationError(
                f"There is no Ray cluster at {address!r}: {error}.",
                hint="Start one with `ray start --head`, or give no address for a local one.",
            ) from error
    return ray


def own_error(error: BaseException) -> SwiftClientError | None:
    """Return our own error among the causes of an error of Ray; None if there is none."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, SwiftClientError) and not hasattr(cause, "as_instanceof_cause"):
            return cause.with_traceback(None)
        seen.add(id(cause))
        cause = getattr(cause, "cause", None) or cause.__cause__
    return None

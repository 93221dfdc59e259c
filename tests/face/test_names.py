"""Tests of public names, import paths, signatures and rows of tables."""

from __future__ import annotations

import importlib
import re
import tomllib
from dataclasses import asdict
from typing import Any, get_args, get_type_hints

import pytest

import swift_client
from swift_client import errors, features, models, training
from swift_client.adapters import huggingface, reward_model
from swift_client.answers import READERS
from swift_client.pocket import questions as pocket
from swift_client.scorers import SCORERS
from swift_client.stopping import STOPPING_RULES, stopping_rule
from swift_client.training import Recipe, recipe_of
from tests.children import ROOT
from tests.face.frozen import described, golden, recorded, signature

PUBLIC: dict[str, tuple[str, ...]] = {
    "swift_client": tuple(swift_client.__all__),
    "swift_client.training": tuple(training.__all__),
    "swift_client.models": tuple(models.__all__),
    "swift_client.adapters": ("Capabilities", "Provider", "capabilities_of", "resolve"),
    "swift_client.adapters.huggingface": ("HuggingFaceModel",),
    "swift_client.adapters.reward_model": tuple(reward_model.__all__),
    "swift_client.answers": ("are_equal", "normalize", "read"),
    "swift_client.features": ("response_terms", "token_features"),
    "swift_client.pocket.questions": ("Question", "questions", "split_of", "worked_examples"),
    "swift_client.scorers": ("score",),
    "swift_client.stopping": ("StoppingRule", "stopping_rule"),
    "swift_client.store": ("Meta", "SampleStore", "StoredQuestion"),
}
STATEMENT = re.compile(
    r"^\s*from (swift_client[\w.]*) import (\([^)]*\)|[^\n(]+)$|^\s*import (swift_client[\w.]*)", re.M
)
MENTION = re.compile(r"`(swift_client(?:\.\w+)+)`")


def told_paths() -> list[str]:
    """Collect the import paths in the pages and examples."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*.py"))]
    paths: set[str] = set()
    for page in pages:
        text = page.read_text()
        for module, names, plain in STATEMENT.findall(text):
            imported_names = [name.split(" as ")[0].strip() for name in re.sub("[()]", "", names).split(",")]
            paths |= {f"{module}.{name}" for name in imported_names if name} if module else {plain}
        if page.name not in ("log.md", "moved-names.md"):  # they name what was
            paths |= set(MENTION.findall(text)) - {"swift_client.providers"}  # an entry-point group
    return sorted(paths)


def reached(path: str) -> object:
    """Import the longest part that is a module, and follow the rest."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            thing = getattr(thing, name)
        return thing
    raise ModuleNotFoundError(path)


def test_the_lists_of_public_names_stay() -> None:
    golden("names", {module: list(names) for module, names in PUBLIC.items()})


def test_each_import_path_that_pages_and_examples_tell_leads_somewhere() -> None:
    now = told_paths()
    frozen = recorded("paths", now)
    assert frozen
    for path in {*frozen, *now}:
        reached(path)


@pytest.mark.parametrize("module", PUBLIC)
def test_signatures_and_members_of_public_names_stay(module: str) -> None:
    signatures = {name: described(getattr(importlib.import_module(module), name)) for name in PUBLIC[module]}
    if module == "swift_client":
        signatures["__version__"] = "a version"
    golden(f"signatures-{module}", signatures)


def test_the_heavy_parts_of_the_package_have_the_documented_classes() -> None:
    assert huggingface.HuggingFaceModel
    assert {"RewardModel", "RewardServer"} <= set(reward_model.__all__)


def hinted_names(action: Any) -> list[str]:
    """Return the names that an error's hint lists."""
    with pytest.raises(errors.ConfigurationError) as excinfo:
        action()
    return re.findall(r"[\w-]+", excinfo.value.hint.removeprefix("Known: "))


def test_the_rows_of_the_tables_stay_since_heads_and_scripts_name_them() -> None:
    golden(
        "rows",
        {
            "SCORERS": {name: row.min_ranks for name, row in SCORERS.items()},
            "FEATURES": {name: [row.columns, row.min_ranks, row.default] for name, row in features.FEATURES.items()},
            "RESPONSE_TERMS": {
                name: [row.columns, row.min_ranks, row.default] for name, row in features.RESPONSE_TERMS.items()
            },
            "DEFAULT_FEATURES": features.DEFAULT_FEATURES,
            "DEFAULT_RESPONSE_TERMS": features.DEFAULT_RESPONSE_TERMS,
            "THINKING_TERMS": features.THINKING_TERMS,
            "WIDTH": features.WIDTH,
            "READERS": list(READERS),
            "LOSSES": list(get_args(get_type_hints(Recipe)["loss"])),
            "RECIPES": hinted_names(lambda: recipe_of("?")),
            "STOPPING_RULES": {
                name: {
                    "parameters": dict(row.parameters),
                    "needs": row.needs,
                    "choice": row.choice,
                    "sweep": row.sweep,
                    "source": row.source,
                }
                for name, row in STOPPING_RULES.items()
            },
            "FAMILIES": [pocket.FAMILIES, dict(pocket.TRAINED_LEVELS), dict(pocket.DEFAULT_LEVELS)],
            "NO_BETTER": models.NO_BETTER_VERDICT,
        },
    )


def test_the_recipes_mean_the_same() -> None:
    assert hinted_names(lambda: recipe_of("default", loss="?")) == list(get_args(get_type_hints(Recipe)["loss"]))
    golden("recipes", {name: asdict(recipe_of(name)) for name in hinted_names(lambda: recipe_of("?"))})


@pytest.mark.parametrize("spec", ["beta", "beta:threshold=0.9:least=4", "posterior:clip=0.05", "esc:size=3"])
def test_a_stopping_rule_is_written_as_it_is_read(spec: str) -> None:
    assert str(stopping_rule(spec)) == spec


def test_the_questions_of_the_packaged_model_stay() -> None:
    golden("questions", [asdict(question) for question in pocket.questions(6, seed=0)])


def test_errors_have_their_tree_and_their_attributes() -> None:
    tree: dict[str, Any] = {}
    for name, kind in sorted(vars(errors).items()):
        if not (isinstance(kind, type) and issubclass(kind, errors.SwiftClientError)):
            continue
        special = {"selection": None} if name == "RejectedError" else {}
        instance = kind("It failed.", hint="Try again.", **special)
        assert str(instance).startswith("It failed. Try again.")
        attributes = {name for name in (*dir(kind), *vars(instance)) if not name.startswith("_")} - set(dir(Exception))
        tree[name] = {
            "bases": [base.__name__ for base in kind.__bases__],
            "parameters": signature(kind),
            "attributes": sorted(attributes),
        }
    golden("errors", tree)


def test_the_command_and_the_extras_have_their_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"swift-client": "swift_client.cli:main"}
    assert callable(importlib.import_module("swift_client.cli").main)
    extras = {"azure", "cli", "datasets", "local", "math", "parquet", "pocket", "prices", "schema", "train", "vertex"}
    assert extras <= set(project["optional-dependencies"])

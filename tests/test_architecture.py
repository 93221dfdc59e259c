"""The structure of the package: no import cycle, small files and folders, and names and docstrings in plain English."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache

from tests.children import ROOT

PACKAGE = ROOT / "swift_client"
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
"""Files by the name of their module."""
CYCLE = {f"swift_client.{name}" for name in ("errors", "display", "types", "types.calls", "types.selection")}
"""The one cycle. ``errors`` and ``display`` name Selection in annotations, as httpx's exceptions name Request, and
``Selection._repr_html_`` imports ``display`` when a notebook shows it (docs/decisions/0001)."""
MAX_LINES, MAX_MODULES, MAX_ROOT_MODULES = 400, 20, 8
QUESTION_WORDS = ("What", "Whether", "How", "Which", "Where", "Who", "Why", "When")
VAGUE_NAMES = """
said told heard asked came found held kept wanted each given read drawn most least known here there some whole spoken
listed begun left want wish wishes have odd lost silent hopeless vouched sure shown beyond apart alone beside ended
judged placed taken chosen which where who what at everything mine theirs ours others again
"""
"""Participles, pronouns and the like, which do not say what a value is."""
MAX_VAGUE_PER_1000_LINES = 3.0


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


def imports_of(module: str) -> set[str]:
    """Return the modules of the package that a module imports, in annotations and inside functions too."""
    names: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module in FILES:
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names.update(member if member in FILES else node.module for member in members)
    return (names & FILES.keys()) - {module}


def reachable_from(module: str, imports: dict[str, set[str]]) -> set[str]:
    """Return the modules that a module imports, directly or through others."""
    reached: set[str] = set()
    waiting = list(imports[module])
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(imports[name])
    return reached


def bound_names(module: str) -> list[str]:
    """Return the names that a module binds: variables, attributes, parameters, functions and classes."""
    names = []
    for node in ast.walk(tree_of(module)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.arg):
            names.append(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.append(node.attr)
    return names


def test_no_module_imports_itself_through_others() -> None:
    imports = {module: imports_of(module) for module in FILES}
    cyclic = {module for module in FILES if module in reachable_from(module, imports)}

    assert cyclic == CYCLE


def test_folders_and_files_stay_small() -> None:
    folders = Counter(path.parent for path in FILES.values())
    long_files = {
        str(path): lines for path in FILES.values() if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }

    assert not long_files
    assert max(folders.values()) <= MAX_MODULES, folders.most_common(1)
    assert folders[PACKAGE] <= MAX_ROOT_MODULES


def test_docstrings_do_not_open_with_a_question_word() -> None:
    offenders = [
        f"{module}: {text.splitlines()[0]}"
        for module in FILES
        for node in ast.walk(tree_of(module))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if (text := ast.get_docstring(node)) and text.split()[0].rstrip(",.:;") in QUESTION_WORDS
    ]

    assert offenders == []


def test_names_say_what_a_value_is() -> None:
    words = set(VAGUE_NAMES.split())
    vague = Counter(name for module in FILES for name in bound_names(module) if name.lstrip("_") in words)
    lines = sum(len(path.read_text().splitlines()) for path in FILES.values())

    assert 1000 * vague.total() / lines <= MAX_VAGUE_PER_1000_LINES, vague.most_common(10)

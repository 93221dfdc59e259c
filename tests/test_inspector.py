"""The inspector over real HTTP: who may see it, what its pages show, and what it keeps."""

from __future__ import annotations

import multiprocessing
import re
import sqlite3
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest

from swift_client import SwiftReranker
from swift_client.errors import ConfigurationError
from swift_client.server.access.client_keys import create_key
from swift_client.server.app import Service
from swift_client.server.config import KeyConfig, ServerConfig, ServiceConfig
from swift_client.server.inspector.entry import MAX_MESSAGE, shorten_prompt
from swift_client.server.inspector.listing import ListQuery
from swift_client.server.inspector.pages import Pages
from swift_client.server.inspector.ring import SelectionRing
from swift_client.server.inspector.session import SECONDS, Sessions
from swift_client.server.observability.record import RequestRecord
from swift_client.store import SelectionStore
from swift_client.types import Candidate, Completion, Event, Selection
from tests.judges import let_judge
from tests.servers import FaultServer, error
from tests.services import QUESTION, RunningService, model_config, run, service_config

FOUR, FIVE = "It is 4. The answer is 4", "The answer is 5"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)></style>\u202e\x1b[31m'\"`{{7*7}}&lt;"
UI = {"ui": True}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "samples.db"


class Browser:
    """A browser without scripts: it keeps cookies and sends forms."""

    def __init__(self, service: RunningService) -> None:
        self.root = service.root
        self.http = httpx2.Client(timeout=20, follow_redirects=True)

    def get(self, path: str) -> httpx2.Response:
        return self.http.get(f"{self.root}{path}")

    def send(self, path: str, page: str, *, headers: dict[str, str] | None = None, **fields: str) -> httpx2.Response:
        """Send a form with the token of ``page``."""
        token = re.search(r'name="token" value="(\w*)"', page)
        assert token
        return self.http.post(f"{self.root}{path}", data={"token": token[1], **fields}, headers=headers)


@pytest.fixture
def browser() -> Iterator[Any]:
    browsers = []

    def open_browser(service: RunningService) -> Browser:
        browsers.append(Browser(service))
        return browsers[-1]

    yield open_browser
    for opened in browsers:
        opened.http.close()


def ask(service: RunningService, text: str = "What is 2 + 2?", *, model: str = "best", **headers: str) -> str:
    """Ask a question and return the id of its selection."""
    reply = service.post({"model": model, "messages": [{"role": "user", "content": text}]}, headers=headers)
    assert reply.is_success, reply.text
    return reply.headers["x-swift-id"]


def keyed_config(server: FaultServer, **settings: Any) -> tuple[ServiceConfig, dict[str, str]]:
    """Return a configuration with two models and three keys, of which two open the inspector."""
    keys = {name: create_key(name) for name in ("anne", "bob", "eve")}
    config = ServiceConfig(
        server=ServerConfig(port=0, ui=True),
        models={name: model_config(server, **settings) for name in ("best", "other")},
        keys={
            "anne": KeyConfig(hash=keys["anne"].hash, ui=True),
            "bob": KeyConfig(hash=keys["bob"].hash, models=("other",), ui=True),
            "eve": KeyConfig(hash=keys["eve"].hash),
        },
    )
    return config, {name: key.key for name, key in keys.items()}


# --- who may see it ------------------------------------------------------------------------------------------------


def test_it_is_off_unless_it_is_configured(fault_server: FaultServer) -> None:
    with run(service_config(fault_server)) as service:
        assert service.get("/ui").status_code == service.get("/ui/").status_code == 404


def test_a_public_address_without_keys_or_with_none_that_opens_it_is_refused(fault_server: FaultServer) -> None:
    callers = {"key": "caller"}
    with pytest.raises(ConfigurationError, match=r"inspector.* public address needs client keys"):
        Service(service_config(fault_server, server={"ui": True, "host": "0.0.0.0"}, **callers))
    with pytest.raises(ConfigurationError, match="no key that opens it"):
        Service(service_config(fault_server, server=UI, keys={"a": KeyConfig(hash=create_key("a").hash)}))


def test_without_keys_it_is_for_requests_to_this_machine_by_name(fault_server: FaultServer, browser: Any) -> None:
    with run(service_config(fault_server, server=UI)) as service:
        assert browser(service).get("/ui").status_code == 200
        assert service.get("/ui/", host="evil.example").status_code == 403
        assert service.get("/ui/static/inspector.css", host="evil.example").status_code == 403


def test_a_key_opens_a_session_whose_cookie_is_not_the_key(fault_server: FaultServer, browser: Any) -> None:
    config, keys = keyed_config(fault_server)
    with run(config) as service:
        selection_id = ask(service, authorization=f"Bearer {keys['eve']}")
        anne = browser(service)
        page = anne.get("/ui/")
        assert page.status_code == 401
        assert selection_id not in page.text
        for key, problem in (("sk-anne.wrong", "not valid"), (keys["eve"], "may not open"), ("", "not valid")):
            refused = anne.send("/ui/login", page.text, key=key)
            assert refused.status_code == 403
            assert problem in refused.text
            assert not anne.http.cookies
        shown = anne.send("/ui/login", page.text, key=keys["anne"])
        assert selection_id in shown.text
        answer = shown.history[0]
        assert (answer.status_code, answer.headers["location"]) == (303, "/ui/")
        cookie = answer.headers["set-cookie"]
        assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/ui", f"Max-Age={SECONDS}"))
        assert keys["anne"] not in cookie
        assert keys["anne"].partition(".")[2] not in cookie

        gone = anne.send("/ui/logout", shown.text)
        assert gone.status_code == 401
        assert not anne.http.cookies


def test_a_session_shows_the_selections_of_its_keys_models_alone(
    fault_server: FaultServer, path: Path, browser: Any
) -> None:
    config, keys = keyed_config(fault_server, store=str(path))
    with run(config) as service:
        ids = {name: ask(service, model=name, authorization=f"Bearer {keys['anne']}") for name in ("best", "other")}
        with SwiftReranker("openai-compatible", "m", base_url=fault_server.url, store=path) as library:
            ids["library"] = library.best_of("Which model?", n=1).id
        bob = browser(service)
        page = bob.send("/ui/login", bob.get("/ui/").text, key=keys["bob"])
        assert [name for name in ids if ids[name] in page.text] == ["other"]
        assert bob.get(f"/ui/selections/{ids['other']}").status_code == 200
        for name in ("best", "library"):
            assert bob.get(f"/ui/selections/{ids[name]}").status_code == 404
            assert bob.send("/ui/feedback", page.text, id=ids[name], correct="right").status_code == 404
        anne = browser(service)
        page = anne.send("/ui/login", anne.get("/ui/").text, key=keys["anne"])
        assert all(ids[name] in page.text for name in ids)


def test_a_session_ends_in_time_with_its_key_and_with_any_change_of_its_cookie() -> None:
    now = [1000.0]
    key = KeyConfig(hash="scrypt$1", ui=True)
    sessions, keys = Sessions(b"secret", clock=lambda: now[0]), {"anne": key}
    cookie = sessions.create("anne", keys)

    assert sessions.check(cookie, keys) == "anne"
    assert sessions.create("anne", keys) != cookie
    assert sessions.check(cookie, {}) is None
    assert sessions.check(cookie, {"anne": KeyConfig(hash="scrypt$2", ui=True)}) is None
    assert sessions.check(cookie, {"anne": KeyConfig(hash="scrypt$1")}) is None
    assert Sessions(b"other", clock=lambda: now[0]).check(cookie, keys) is None
    for changed in (
        "",
        ".",
        "anne",
        cookie[:-1],
        cookie + "é",
        cookie.replace("anne", "eve"),
        cookie * 9,
        "anne.x.y.z",
    ):
        assert sessions.check(changed, keys) is None
    name, expiry, *rest = cookie.split(".")
    assert sessions.check(".".join([name, str(int(expiry) + 9), *rest]), keys) is None
    now[0] += SECONDS
    assert sessions.check(cookie, keys) is None


def test_an_origin_that_may_call_the_api_cannot_read_it(fault_server: FaultServer) -> None:
    server = {"ui": True, "cors_origins": ["https://app.example"]}
    with run(service_config(fault_server, server=server)) as service:
        assert service.get("/v1/models", origin="https://app.example").status_code == 200
        selection_id = ask(service)
        refused = service.get("/ui/", origin="https://app.example")
        assert refused.status_code == 403
        assert selection_id not in refused.text


def check_cookie(cookie: str, keys: dict[str, KeyConfig]) -> str | None:
    """Check a session in another process."""
    return Sessions().check(cookie, keys)


def test_a_session_holds_in_all_workers_of_a_service() -> None:
    keys = {"anne": KeyConfig(hash="scrypt$1", ui=True)}
    cookie = Sessions().create("anne", keys)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(check_cookie, (cookie, keys)) == "anne"
        assert pool.apply(check_cookie, (cookie[:-1], keys)) is None
        pool.close()
        pool.join()


def test_a_forged_form_changes_nothing(fault_server: FaultServer, path: Path, browser: Any) -> None:
    with run(service_config(fault_server, server=UI, store=str(path))) as service:
        selection_id = ask(service)
        view = browser(service)
        page = view.get(f"/ui/selections/{selection_id}").text
        fields = {"id": selection_id, "correct": "right"}
        address = f"{service.root}/ui/feedback"
        assert view.http.post(address, data=fields).status_code == 403
        assert view.http.post(address, data={**fields, "token": "0" * 64}).status_code == 403
        assert view.send("/ui/feedback", page, headers={"sec-fetch-site": "cross-site"}, **fields).status_code == 403
        assert view.send("/ui/feedback", page, id=selection_id, correct="maybe").status_code == 400
        assert view.http.post(address, json=fields).status_code == 415
        assert view.http.post(address, data={f"f{i}": "" for i in range(99)}).status_code == 400
        assert view.http.post(address, data={"token": "a" * 5000}).status_code == 413
        assert view.http.get(address).status_code == 405

    with SelectionStore(path) as store:
        assert list(store.feedback()) == []


def test_every_reply_forbids_foreign_content_frames_and_caches(fault_server: FaultServer, browser: Any) -> None:
    config, _ = keyed_config(fault_server)
    with run(service_config(fault_server, server=UI)) as service, run(config) as keyed:
        selection_id = ask(service)
        replies = [service.get("/ui"), keyed.get("/ui/"), service.get("/ui/selections/unknown")]
        replies += [service.get("/ui/"), service.get(f"/ui/selections/{selection_id}")]
        names = ("report.css", "inspector.css", "inspector.js", "icon.svg")
        files = [service.get(f"/ui/static/{name}") for name in names]
        for reply in (*replies, *files):
            policy = reply.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["referrer-policy"] == "same-origin"
        assert {reply.headers["cache-control"] for reply in replies} == {"no-store"}
        assert [reply.status_code for reply in replies] == [303, 401, 404, 200, 200]
        assert {reply.status_code for reply in files} == {200}
        for name in ("base.html.j2", "..%2f__init__.py", "%00", "inspector.css%20"):
            assert service.get(f"/ui/static/{name}").status_code == 404


# --- what its pages show -------------------------------------------------------------------------------------------


def test_the_page_of_a_selection_shows_everything_that_the_choice_rests_on(
    fault_server: FaultServer, path: Path, browser: Any
) -> None:
    fault_server.answers = (FOUR, FIVE, FOUR)
    let_judge(fault_server, lambda text: 0.8 if "4" in text else 0.3)
    config = service_config(fault_server, server=UI, store=str(path), verifier={"judge": "self", "when": "always"})
    with run(config) as service:
        page = unescape(browser(service).get(f"/ui/selections/{ask(service)}").text)

    assert "<title>What is 2 + 2? – swift-client</title>" in page
    for heading in ("Chosen answer", "Was it right?", "Votes", "Judgements", "Time", "Candidates", "Prompt"):
        assert f">{heading}</h2>" in page
    assert page.index('id="c0"' if 'id="c0" class="candidate won"' in page else 'id="c2"') < page.index('id="c1"')
    assert "2 of 3" in page
    assert "0.80" in page
    assert re.search(r"<dt>verification</dt>", page)
    assert re.search(r'<i class="d\d" title="\S+\nprobability 0\.\d+\nlogprob', page)
    assert "Least likely:" in page
    assert "style=" not in page


def test_a_selection_is_found_in_the_file_after_a_restart(fault_server: FaultServer, path: Path, browser: Any) -> None:
    fault_server.answers = (FOUR, FIVE, FOUR)
    config = service_config(fault_server, server=UI, store=str(path))
    with run(config) as service:
        selection_id = ask(service)
        before = browser(service).get(f"/ui/selections/{selection_id}").text
    with run(config) as service:
        view = browser(service)
        assert selection_id in view.get("/ui/").text
        after = view.get(f"/ui/selections/{selection_id}").text

    def section(page: str, name: str) -> str:
        return page[page.index(f'aria-labelledby="{name}"') :].partition("</section>")[0]

    for name in ("h-votes", "h-candidates", "h-prompt"):
        assert section(after, name) == section(before, name)


def test_thumbs_are_stored_shown_and_withdrawn(fault_server: FaultServer, path: Path, browser: Any) -> None:
    with run(service_config(fault_server, server=UI, store=str(path))) as service:
        selection_id = ask(service)
        view = browser(service)
        page = view.get(f"/ui/selections/{selection_id}").text
        assert "No feedback yet." in page
        for correct, words in (("right", "Marked as right."), ("wrong", "Marked as wrong."), ("none", "No feedback")):
            reply = view.send("/ui/feedback", page, id=selection_id, correct=correct)
            assert words in reply.text
            assert reply.history[0].headers["location"] == f"/ui/selections/{selection_id}#feedback"
            assert (selection_id in view.get("/ui/?show=wrong").text) is (correct == "wrong")


def test_without_a_samples_file_the_page_says_that_feedback_needs_one(fault_server: FaultServer, browser: Any) -> None:
    with run(service_config(fault_server, server=UI)) as service:
        selection_id = ask(service)
        view = browser(service)
        page = view.get(f"/ui/selections/{selection_id}").text
        assert "Feedback needs a samples file" in page
        assert "<button" not in page


def test_the_list_is_searched_and_filtered(fault_server: FaultServer, path: Path, browser: Any) -> None:
    config = ServiceConfig(
        server=ServerConfig(port=0, ui=True),
        models={name: model_config(fault_server, n=1, store=str(path)) for name in ("best", "other")},
    )
    with run(config) as service:
        plain = ask(service, "How tall is the Elbe Tower?")
        other = ask(service, "Another Question", model="other")
        fault_server.script(error(500, "overloaded"))
        failed = service.post({"model": "best", "messages": QUESTION})
        assert failed.status_code == 502
        view = browser(service)

        def shown(query: str) -> list[str]:
            page = view.get(f"/ui/?{query}").text
            return [name for name, number in (("plain", plain), ("other", other)) if number in page]

        assert shown("") == ["plain", "other"]
        assert shown("q=elbe+tower") == ["plain"]
        assert shown(f"q={other[:12]}") == ["other"]
        assert shown("model=other") == ["other"]
        assert shown("q=nothing+at+all") == []
        assert shown("show=rejected") == shown("show=failures") == []
        assert shown("show=unknown&page=-1&page=x") == ["plain", "other"]
        assert "Nothing matches" in view.get("/ui/?q=nothing+at+all").text


def test_long_lists_have_pages(fault_server: FaultServer, browser: Any) -> None:
    with run(service_config(fault_server, server=UI, n=1)) as service:
        ids = [ask(service, f"Question {number}") for number in range(27)]
        view = browser(service)
        first, second = view.get("/ui/?q=question").text, view.get("/ui/?q=question&page=2").text

    assert sum(number in first for number in ids) == 25
    assert [number in second for number in ids] == [True, True] + [False] * 25
    assert 'href="/ui/?q=question&amp;model=&amp;show=all&amp;page=2"' in first
    assert "Older" not in second


def test_all_links_hold_the_path_prefix(fault_server: FaultServer, path: Path, browser: Any) -> None:
    with run(service_config(fault_server, server={"ui": True, "path_prefix": "/llm"}, store=str(path))) as service:
        selection_id = ask(service)
        view = browser(service)
        pages = [view.get("/ui").text, view.get(f"/ui/selections/{selection_id}").text]
        for page in pages:
            links = re.findall(r'(?:href|src|action)="([^"#]+)', page)
            assert links
            assert all(link.startswith("/llm/ui/") for link in links)
            assert all(
                view.http.get(service.root.removesuffix("/llm") + link).status_code in (200, 405) for link in links
            )
        assert view.send("/ui/feedback", pages[1], id=selection_id, correct="right").status_code == 200


def test_hostile_texts_are_shown_as_texts(fault_server: FaultServer, path: Path, browser: Any) -> None:
    fault_server.answers = (f"{HOSTILE} The answer is {HOSTILE}", "w" * 100_000)
    settings = {"sampling": {"temperature": 1.0}, "store": str(path), "answer": "text"}
    with run(service_config(fault_server, server=UI, **settings)) as service:
        selection_id = ask(service, HOSTILE)
        view = browser(service)
        pages = [view.get("/ui/").text, view.get(f"/ui/selections/{selection_id}").text]
        pages.append(view.http.get(f"{service.root}/ui/", params={"q": HOSTILE, "model": HOSTILE}).text)
        pages.append(view.get("/ui/selections/%3Cscript%3Ealert(1)").text)

    for page in pages:
        assert page.count("<script") == 1  # ours, from our origin
        assert "<img" not in page
        assert "onerror=alert(2)>" not in page
        assert "\u202e" not in page
        assert "\x1b" not in page
        assert "49" not in re.sub(r"\d[\w.:-]+|&#\d+;", "", page)  # {{7*7}} is not computed
        assert len(page) < 1_000_000
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in pages[1]


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE selection SET facts = '{"winner": 0}'""",
        """UPDATE selection SET facts = json_set(facts, '$.winner', 99)""",
        """UPDATE selection SET facts = json_set(facts, '$.notes', 7)""",
        """UPDATE selection SET facts = json_set(facts, '$.candidates[0].score', 'high')""",
        "UPDATE selection SET facts = '['",
    ],
)
def test_a_damaged_selection_in_a_file_breaks_no_page(
    fault_server: FaultServer, path: Path, browser: Any, statement: str
) -> None:
    config = service_config(fault_server, server=UI, store=str(path))
    with run(config) as service:
        selection_id = ask(service)
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    with run(config) as service:
        view = browser(service)
        page = view.get("/ui/")
        assert page.status_code == 200
        assert re.search("is damaged|cannot be read", page.text)
        assert str(path) not in page.text
        assert view.get(f"/ui/selections/{selection_id}").status_code == 500


# --- what it keeps -------------------------------------------------------------------------------------------------


def record(text: str, *, number: int = 0, prompt: str = "q") -> RequestRecord:
    """Return the record of a request whose chosen answer is ``text``."""
    selection = Selection(
        id=f"s{number}", candidates=(Candidate(completion=Completion(text=text)),), winner=0, signal="text",
        scorer="mean_logprob", method="best",
    )  # fmt: skip
    return RequestRecord(id="r", model="best", messages=[{"role": "user", "content": prompt}], selection=selection)


def test_memory_holds_so_many_selections_and_bytes() -> None:
    ring = SelectionRing(max_entries=3, max_bytes=100_000)
    for number in range(5):
        ring.end(record("short", number=number))
    assert [entry.id for entry in ring.entries()] == ["s4", "s3", "s2"]
    ring.end(record("x" * 40_000, number=5))
    assert [entry.id for entry in ring.entries()] == ["s5", "s4", "s3"]
    ring.end(record("y" * 40_000, number=6))
    assert [entry.id for entry in ring.entries()] == ["s6"]
    ring.end(record("z", number=7, prompt="p" * 90_000))
    assert [entry.id for entry in ring.entries()] == ["s7"]
    assert len(ring.entries()[0].question) == MAX_MESSAGE + 1
    SelectionRing(max_bytes=10).end(record("too long"))


def test_half_a_surrogate_pair_is_shown_as_its_escape() -> None:
    ring = SelectionRing()
    ring.end(record("\ud800 half", prompt="\udfff"))

    page = Pages("/ui").selection(ring.entries()[0], viewer=None, form_token="")

    assert "\\ud800 half" in page
    assert "\\udfff" in page
    page.encode()


def test_a_request_without_a_selection_is_not_kept_and_leaves_no_times() -> None:
    ring, failed = SelectionRing(), RequestRecord(id="r")
    ring.on_event(failed, Event(kind="request", call=0, n=1, message=""))
    ring.end(failed)

    assert ring.entries() == []
    assert len(ring._phases) == 0


def test_prompts_are_kept_as_texts_without_images() -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:" + "A" * 9999}},
    ]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": None}, {"content": 7}]

    assert [tuple(part) for part in shorten_prompt(messages)] == [
        ("user", "What is this? [image_url]"), ("assistant", ""), ("?", "7")
    ]  # fmt: skip


def test_odd_parameters_of_an_address_count_as_not_given() -> None:
    assert ListQuery.parse({"page": "9" * 50, "show": "x", "q": " a "}) == ListQuery(words="a")
    assert ListQuery.parse({"page": "٣"}) == ListQuery()
    assert ListQuery.parse({"page": "0"}).page == 1

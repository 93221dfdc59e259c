"""The inspector in a real Chromium: hostile content, keyboard, narrow and wide, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from swift_client.server.access.client_keys import create_key
from swift_client.server.config import KeyConfig
from tests.judges import let_judge
from tests.servers import FaultServer, error
from tests.services import RunningService, run, service_config

playwright = pytest.importorskip("playwright.sync_api", reason="the extra 'dev' is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: make service-packages")

HOSTILE = (
    "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
    "<svg onload=alert(1)></style></textarea></title>{{7*7}}${7*7}javascript:alert(1)"
    "\u202egnirts desrever\u202c\u200f\u2067 العربية \x1b[31mred\x07 "
)
ANSWERS = (
    f"{HOSTILE} The answer is <b onclick=alert(1)>4</b>",
    "Long words: " + "w" * 100_000,
    "It is 4.\n\nThe answer is 4",
    "The answer is 5",
)
CHECKS = """
() => {
  const problems = [];
  const name = (element) => (element.getAttribute("aria-label") || element.textContent || element.title || "").trim();
  if (!document.documentElement.lang) problems.push("no language");
  if (!document.title.trim()) problems.push("no title");
  if (document.querySelectorAll("main").length !== 1) problems.push("not one main");
  if (document.querySelectorAll("h1").length !== 1) problems.push("not one h1");
  let level = 0;
  for (const heading of document.querySelectorAll("h1,h2,h3,h4,h5,h6")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) problems.push(`heading ${next} after ${level}`);
    if (!name(heading)) problems.push("empty heading");
    level = next;
  }
  for (const field of document.querySelectorAll("input:not([type=hidden],[hidden]),select,textarea"))
    if (!field.labels.length && !field.getAttribute("aria-label")) problems.push(`no label: ${field.name}`);
  for (const element of document.querySelectorAll("a,button,summary"))
    if (!name(element)) problems.push(`no name: ${element.outerHTML.slice(0, 80)}`);
  for (const table of document.querySelectorAll("table"))
    if (!table.querySelector("thead th[scope=col]") || !table.querySelector("tbody th[scope=row]"))
      problems.push("a table without headers");
  for (const element of document.querySelectorAll("img,svg"))
    if (element.getAttribute("aria-hidden") !== "true" && !name(element)) problems.push("a picture without words");
  for (const element of document.querySelectorAll("[aria-labelledby],[aria-describedby]"))
    for (const id of (element.getAttribute("aria-labelledby") || element.getAttribute("aria-describedby")).split(" "))
      if (!document.getElementById(id)) problems.push(`no element ${id}`);
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  if (new Set(ids).size !== ids.length) problems.push("an id twice");
  return problems;
}
"""
CONTRAST = """
() => {
  const parse = (colour) => {
    const parts = colour.match(/[\\d.]+/g).map(Number);
    return { rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 };
  };
  const over = (top, bottom) => top.rgb.map((value, i) => value * top.alpha + bottom[i] * (1 - top.alpha));
  const backdrop = (element) => {
    const layers = [];
    for (let node = element; node; node = node.parentElement) {
      const layer = parse(getComputedStyle(node).backgroundColor);
      layers.push(layer);
      if (layer.alpha === 1) break;
    }
    return layers.reverse().reduce((colour, layer) => over(layer, colour), [255, 255, 255]);
  };
  const luminance = (rgb) => {
    const linear = (v) => (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((value) => linear(value / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const worst = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    if (element.closest(".hidden, svg")) continue;
    const back = backdrop(element);
    const front = over(parse(getComputedStyle(element).color), back);
    const [light, dark] = [luminance(front), luminance(back)].sort((a, b) => b - a);
    const ratio = (light + .05) / (dark + .05);
    if (ratio < 4.5) worst[`${element.tagName}.${element.className}`] = ratio.toFixed(2);
  }
  return worst;
}
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    # Chromium's socket lies in its profile, and the path of a socket has at most 108 bytes.
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory(dir="/tmp") as folder:
        patch.setenv("TMPDIR", folder)
        yield from launch()


def launch() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service with a selection of hostile texts, and one with a failed call."""
    path = tmp_path_factory.mktemp("inspector") / "samples.db"
    with FaultServer(ANSWERS) as upstream:
        let_judge(upstream, lambda text: 0.7 if "4" in text else 0.2)
        verifier = {"judge": "self", "when": "always"}
        config = service_config(upstream, server={"ui": True}, n=4, store=str(path), verifier=verifier)
        with run(config) as running:
            for text in ("How tall is the Elbe Tower?", HOSTILE + "x" * 100_000, "What is 2 + 2?"):
                message = {"role": "user", "content": text}
                assert running.post({"model": "best", "messages": [message]}).is_success
            upstream.script(error(500, f"{HOSTILE} down"))
            yield running


class Tab:
    """A page of a browser, with everything that its console and its policy complain about."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda problem: self.complaints.append(str(problem)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed {request.url[:100]}"))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => console.error('CSP', event.violatedDirective))"
        )

    def press_until(self, selector: str, *, key: str = "Tab", most: int = 60) -> None:
        """Press a key until the focus is on an element that fits."""
        for _ in range(most):
            self.page.keyboard.press(key)
            if self.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
        pytest.fail(f"{key} does not reach {selector}")


@pytest.fixture
def tab(chromium: Any, service: RunningService, request: pytest.FixtureRequest) -> Iterator[Tab]:
    """Open the list in a tab of its own; the parameter is (width, colour scheme)."""
    width, scheme = getattr(request, "param", (1280, "light"))
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab = Tab(context.new_page())
    tab.page.goto(f"{service.root}/ui")
    yield tab
    context.close()


SIZES = pytest.mark.parametrize("tab", [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")], indirect=True)


def open_hostile(page: Any) -> None:
    page.get_by_role("link", name="hacked").click()
    page.wait_for_load_state()


@SIZES
def test_hostile_content_runs_nothing_moves_nothing_and_can_be_read(tab: Tab) -> None:
    for visit in (lambda: None, lambda: open_hostile(tab.page)):
        visit()
        closed = tab.page.locator("details.candidate:not([open]) > summary")
        while closed.count():
            closed.first.click()
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.page.evaluate(CHECKS) == []
        assert tab.page.evaluate(CONTRAST) == {}
        assert not tab.page.title().startswith("hacked")
        assert tab.page.locator("main img, main script, main style, main [onclick], main [style]").count() == 0
        assert tab.page.evaluate(r"!/[\u202a-\u202e\u2066-\u2069\u200f\x1b]/.test(document.documentElement.outerHTML)")
    assert "document.title='hacked'" in tab.page.inner_text("main")
    assert tab.complaints == []


def test_the_whole_way_can_be_walked_by_keyboard(tab: Tab) -> None:
    page = tab.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("elbe tower")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=elbe+tower**")
    assert page.locator("tbody tr").count() == 1
    tab.press_until("#show")
    page.keyboard.press("ArrowDown")  # "not accepted", of which there is none
    page.wait_for_url("**show=rejected**")
    assert page.get_by_text("Nothing matches").is_visible()
    page.go_back()
    tab.press_until("tbody a")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**/selections/*")
    tab.press_until("button[value=wrong]")
    page.keyboard.press("Enter")
    page.wait_for_url("**#feedback")
    assert page.get_by_role("status").inner_text() == "Marked as wrong."
    assert page.get_by_role("button", name="Wrong", pressed=True).count() == 1
    tab.press_until("details.candidate:not(.won) > summary")
    page.keyboard.press("Enter")
    assert page.locator("details.candidate[open]").count() == 2
    assert tab.complaints == []


def test_pages_work_without_scripts(chromium: Any, service: RunningService) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{service.root}/ui")
    page.get_by_label("Search prompts").fill("2 + 2")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="What is 2 + 2?").click()
    page.get_by_role("button", name="Right").click()
    assert page.get_by_role("status").inner_text() == "Marked as right."
    context.close()


def test_a_link_to_a_candidate_opens_it(tab: Tab) -> None:
    open_hostile(tab.page)
    link = tab.page.locator(".candidates tbody a").last
    target = tab.page.locator(link.get_attribute("href"))
    assert target.get_attribute("open") is None
    link.click()
    assert target.get_attribute("open") is not None
    assert tab.complaints == []


def test_a_browser_signs_in_with_a_key_and_out_again(chromium: Any) -> None:
    key = create_key("anne")
    with FaultServer() as upstream:
        config = service_config(upstream, server={"ui": True}, keys={"anne": KeyConfig(hash=key.hash, ui=True)})
        with run(config) as keyed:
            context = chromium.new_context(viewport={"width": 390, "height": 800})
            tab = Tab(context.new_page())
            page = tab.page
            page.goto(f"{keyed.root}/ui/")
            assert page.evaluate(CHECKS) == []
            assert page.evaluate(CONTRAST) == {}
            page.get_by_label("Key").fill("sk-anne.wrong")
            page.keyboard.press("Enter")
            page.wait_for_selector("[role=alert]")
            assert page.evaluate(CHECKS) == []
            assert page.evaluate(CONTRAST) == {}
            page.get_by_label("Key").fill(key.key)
            page.keyboard.press("Enter")
            page.wait_for_selector("text=There are no selections yet")
            assert page.evaluate("document.cookie") == ""
            page.get_by_role("button", name="Sign out").click()
            page.wait_for_selector("label[for=key]")
            assert context.cookies() == []
            # The console names replies 401 and 403, which are meant.
            assert [text for text in tab.complaints if "401" not in text and "403" not in text] == []
            context.close()

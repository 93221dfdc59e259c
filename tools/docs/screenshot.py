"""The picture of the inspector in the guide: ``python -m tools.docs.screenshot`` writes docs/images/inspector.png.

It asks the packaged model questions, so that no key is needed, and photographs the page in Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from swift_client.pocket.questions import questions
from swift_client.server.config import ModelConfig, ServerConfig, ServiceConfig
from tests.services import run

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "inspector.png"
WIDTH, HEIGHT = 860, 1330  # CSS pixels


def main() -> None:
    """Write the picture."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("Chromium is not installed: make service-packages")
    with tempfile.TemporaryDirectory() as folder:
        model = ModelConfig(provider="pocket", n=8, store=f"{folder}/samples.db", sampling={"temperature": 1.0})
        config = ServiceConfig(server=ServerConfig(port=0, ui=True), models={"pocket-8": model})
        with run(config) as service, sync_playwright() as driver:
            votes: dict[str, int] = {}
            for number, question in enumerate(questions(40, seed=7)):
                if question.family == "arithmetic":
                    message = {"role": "user", "content": question.prompt}
                    reply = service.post({"model": "pocket-8", "messages": [message], "seed": number}).json()
                    groups = {candidate["group"] for candidate in reply["swift"]["candidates"]}
                    votes[reply["swift"]["id"]] = len(groups)
            # Two to four different answers show what a vote is.
            chosen_id = next(id for id, count in votes.items() if 2 <= count <= 4)
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, locale="en-GB")
            page.goto(f"{service.root}/ui/selections/{chosen_id}")
            page.screenshot(path=PICTURE)
            browser.close()


if __name__ == "__main__":
    main()

"""Open pages from the disk in headless Chromium, and keep what they say and ask for."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    *("--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
]
WITHOUT_WEBGL = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-3d-apis"]
LIMIT_MS = 180_000


@contextmanager
def chromium(flags=FLAGS):
    """A browser without any download; skips the test, with the reason, where one is absent."""
    if find_spec("playwright") is None or not Path(CHROMIUM).exists():
        pytest.skip("Playwright (the extra viewer) or Debian's chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser, path, **context):
    """A page from the disk, and a list of what it wrote to the console, raised, or asked for beside itself."""
    place = browser.new_context(viewport={"width": 1280, "height": 900}, **context)
    page = place.new_page()
    page.set_default_timeout(LIMIT_MS)
    told = []
    page.on("console", lambda message: told.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: told.append(f"error: {error}"))
    url = Path(path).resolve().as_uri()
    page.on("request", lambda request: told.append(request.url) if not request.url.startswith(("data:", url)) else None)
    page.goto(url)
    try:
        yield page, told
    finally:
        place.close()


def faults_of_accessibility(page):
    """What axe-core finds, minor faults too; skips the test where it is absent."""
    script = Path(os.environ.get("MEDFUSE_AXE", "absent"))
    if not script.is_file():
        pytest.skip("MEDFUSE_AXE does not name axe.min.js (npm pack axe-core)")
    page.evaluate(script.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (one["impact"], one["id"], one["help"], [node["html"][:200] for node in one["nodes"]])
        for one in found["violations"]
    ]

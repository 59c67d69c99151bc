"""A real browser: Debian's Chromium through Playwright, watched for errors and for requests to anywhere else."""

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


@pytest.fixture(scope="session")
def chromium():
    """The browser. Where there is none the test is skipped with a sentence."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("There is no Chromium on this machine; on Debian: apt-get install chromium.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=list(FLAGS))
        yield browser
        browser.close()


class Visit:
    """One person's window. `wrong` collects errors of the console, failed answers and requests to other hosts."""

    def __init__(self, browser, site, width: int) -> None:
        self.base = site.base_url
        self.context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce")
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.wrong: list[str] = []
        self.page.on("console", lambda m: self.wrong.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.wrong.append(f"pageerror: {e}"))
        self.page.on("response", lambda r: self.wrong.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
        own = (self.base, "data:", "blob:")
        self.page.on("request", lambda r: None if r.url.startswith(own) else self.wrong.append(f"elsewhere: {r.url}"))

    def sign_in(self, name: str, password: str) -> None:
        self.page.goto(self.base + "/")
        self.page.fill("#id_username", name)
        self.page.fill("#id_password", password)
        self.page.click("main button[type=submit]")
        self.page.wait_for_url(self.base + "/")

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


@pytest.fixture
def visit(chromium, site):
    """Call it with a person (and a width): a window in which she is signed in. The windows close with the test."""
    open_windows: list[Visit] = []

    def start(person: str = "viewer", width: int = 1280) -> Visit:
        window = Visit(chromium, site, width)
        open_windows.append(window)
        window.sign_in(person, site.password)
        return window

    yield start
    for window in open_windows:
        window.context.close()

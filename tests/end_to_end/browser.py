"""The system's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_MILLISECONDS = 120_000  # for a drawing on a busy machine


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium without a window; skip the test if it is not installed."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright, ExitStack() as stack:
        # The sandbox does not work as root, which CI runs as; only our own pages are opened.
        launch = partial(playwright.chromium.launch, executable_path=program, args=["--no-sandbox"])
        browser = launch()
        if not has_fonts(browser):
            browser.close()
            browser = launch(env={**os.environ, "FONTCONFIG_FILE": stack.enter_context(font_configuration())})
        yield browser
        browser.close()


def has_fonts(browser: Browser) -> bool:
    """Whether any font is installed: without one Chromium shows no text, and crashes on a password field."""
    page = browser.new_page()
    width: float = page.evaluate("document.createElement('canvas').getContext('2d').measureText('text').width")
    page.close()
    return width > 0


@contextmanager
def font_configuration() -> Iterator[str]:
    """Write a fontconfig configuration with the fonts that matplotlib has."""
    import matplotlib

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fonts.conf"
        path.write_text(f"<fontconfig><dir>{fonts}</dir><cachedir>{folder}</cachedir></fontconfig>", encoding="utf-8")
        yield str(path)


class Visit:
    """A visit to the playground with its own browser profile; `page` is Playwright's."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.errors: list[str] = []  # from the browser's console
        self.is_refused = False  # whether failed requests are expected in the console
        self.hosts: set[str] = set()
        self.context: BrowserContext = browser.new_context(locale="en-GB", **options)
        self.context.set_default_timeout(WAIT_MILLISECONDS)
        # Records all states of a tile, even those too short to be seen by polling.
        self.context.add_init_script(path=Path(__file__).with_name("watch_states.js"))
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2] if "//" in request.url[:8] else ""))

    def open(self) -> Page:
        """Open the page, and wait until it has the model's description."""
        self.page.goto(f"{self.url}/playground")
        self.page.wait_for_selector("#examples button")
        return self.page

    def leave(self) -> None:
        """Close the page; fail the test if the page had errors, or sent requests to another host."""
        self.context.close()
        assert self.hosts <= {self.url.removeprefix("http://"), ""}  # "" is the host of an image created on the page
        assert [error for error in self.errors if not (self.is_refused and "Failed to load resource" in error)] == []

    def draw(self, text: str, images: int = 1) -> None:
        """Type a prompt and a number of images, and press Enter."""
        self.page.fill("#num_images", str(images))
        self.page.fill("#text", text)
        self.page.press("#text", "Enter")

    def wait_for(self, state: str) -> None:
        """Wait until the newest drawing is in a state."""
        self.page.wait_for_selector(f".drawing:first-child[data-state={state}]")

    def wait_until(self, condition: str) -> None:
        """Wait until an expression, or its promise, is true; Playwright's own function needs eval, which the page forbids."""
        self.page.evaluate(
            f"""(patience) => new Promise((resolve, reject) => {{
                const look = async () => ((await ({condition})) ? resolve() : requestAnimationFrame(look));
                setTimeout(() => reject(new Error("not true in time")), patience);
                look().catch(reject);
            }})""",
            WAIT_MILLISECONDS,
        )

    def states(self) -> list[list[str]]:
        """Return the states of each tile of the newest drawing, in order."""
        states: list[list[str]] = self.page.evaluate(
            "[...document.querySelectorAll('.drawing:first-child .tile')].map((tile) => tileStates.get(tile) ?? [])"
        )
        return states

    def focused(self) -> str:
        """Return the id, or the action, of the element with the focus."""
        focused: str = self.page.evaluate("document.activeElement.id || document.activeElement.dataset.act || ''")
        return focused

    def problem(self, field: str) -> str:
        """Wait for the error message at a field of the form, and return it."""
        return self.page.wait_for_selector(f"#{field}-error:not(:empty)").inner_text()  # type: ignore[union-attr]

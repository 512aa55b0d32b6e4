"""A real Chromium, as Debian and others package it, driven by Playwright."""

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
    """Run Chromium without a window; skip the test where there is none."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("there is no Chromium: install it (Debian: apt-get install chromium) to test the page")
    with sync_playwright() as playwright, ExitStack() as stack:
        # Its sandbox refuses to run as root, as CI does; the only pages it opens are ours.
        launch = partial(playwright.chromium.launch, executable_path=program, args=["--no-sandbox"])
        browser = launch()
        if not has_fonts(browser):
            browser.close()
            browser = launch(env={**os.environ, "FONTCONFIG_FILE": stack.enter_context(font_configuration())})
        yield browser
        browser.close()


def has_fonts(browser: Browser) -> bool:
    """Whether text has a size: on a machine without fonts Chromium shows none, and crashes at a password."""
    page = browser.new_page()
    width: float = page.evaluate("document.createElement('canvas').getContext('2d').measureText('text').width")
    page.close()
    return width > 0


@contextmanager
def font_configuration() -> Iterator[str]:
    """Write a configuration of fontconfig with the fonts that matplotlib brings."""
    import matplotlib

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fonts.conf"
        path.write_text(f"<fontconfig><dir>{fonts}</dir><cachedir>{folder}</cachedir></fontconfig>", encoding="utf-8")
        yield str(path)


class Visit:
    """Be one visitor of the page, with a profile of their own; `page` is Playwright's."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.errors: list[str] = []  # what the browser's console says is wrong
        self.is_refused = False  # then the console may say that the server did not answer, or with a refusal
        self.hosts: set[str] = set()
        self.context: BrowserContext = browser.new_context(locale="en-GB", **options)
        self.context.set_default_timeout(WAIT_MILLISECONDS)
        # Every state that a tile or a drawing goes through, also those that last for less than a look.
        self.context.add_init_script(path=Path(__file__).with_name("watch_states.js"))
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2] if "//" in request.url[:8] else ""))

    def open(self) -> Page:
        """Open the page, and wait until it knows the model."""
        self.page.goto(f"{self.url}/playground")
        self.page.wait_for_selector("#examples button")
        return self.page

    def leave(self) -> None:
        """Close the page; fail the test for what went wrong on it, or went to another host."""
        self.context.close()
        assert self.hosts <= {self.url.removeprefix("http://"), ""}  # "" is a picture made on the page
        assert [error for error in self.errors if not (self.is_refused and "Failed to load resource" in error)] == []

    def draw(self, text: str, images: int = 1) -> None:
        """Type a prompt, choose a number of images, and press Enter."""
        self.page.fill("#num_images", str(images))
        self.page.fill("#text", text)
        self.page.press("#text", "Enter")

    def wait_for(self, state: str) -> None:
        """Wait until the newest drawing is in a state."""
        self.page.wait_for_selector(f".drawing:first-child[data-state={state}]")

    def wait_until(self, condition: str) -> None:
        """Wait until an expression is true, or a promise of true; Playwright's own way needs an eval, which the page forbids."""
        self.page.evaluate(
            f"""(patience) => new Promise((resolve, reject) => {{
                const look = async () => ((await ({condition})) ? resolve() : requestAnimationFrame(look));
                setTimeout(() => reject(new Error("not true in time")), patience);
                look().catch(reject);
            }})""",
            WAIT_MILLISECONDS,
        )

    def states(self) -> list[list[str]]:
        """Give the states that each tile of the newest drawing went through."""
        states: list[list[str]] = self.page.evaluate(
            "[...document.querySelectorAll('.drawing:first-child .tile')].map((tile) => tileStates.get(tile) ?? [])"
        )
        return states

    def focused(self) -> str:
        """Name the element that has the focus, by its id or what it does."""
        focused: str = self.page.evaluate("document.activeElement.id || document.activeElement.dataset.act || ''")
        return focused

    def problem(self, field: str) -> str:
        """Give the sentence at a field of the form, once there is one."""
        return self.page.wait_for_selector(f"#{field}-error:not(:empty)").inner_text()  # type: ignore[union-attr]

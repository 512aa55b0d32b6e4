"""The playground's latency in Chromium with Tiny: from Enter to the first preview and the image, from Cancel to a free slot.

python -m benchmarks.page
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
import urllib.request

from playwright.sync_api import Page, sync_playwright
from tqdm import tqdm

from benchmarks.plan import PROMPT
from benchmarks.server_process import our_command, running
from host.threads import usable_threads

# Records when Enter was pressed and when each state of the newest tile began, in the browser's milliseconds.
WATCH = """
globalThis.began = {};
addEventListener("keydown", (event) => { if (event.key === "Enter") began = { enter: performance.now() }; }, true);
new MutationObserver((changes) => {
  for (const { target } of changes) if (target.classList.contains("tile")) began[target.dataset.state] ??= performance.now();
}).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-state"] });
"""


def draw(page: Page) -> dict[str, float]:
    """Draw one image; return the milliseconds from Enter to its `preview` and to `done`."""
    page.fill("#text", PROMPT)
    page.fill("#num_images", "1")
    page.press("#text", "Enter")
    page.locator(".drawing").first.locator(".tile[data-state=done]").wait_for()
    began = page.evaluate("began")
    return {state: began[state] - began["enter"] for state in ("preview", "done")}


def cancel(page: Page, url: str) -> float:
    """Request ten images and cancel them at the first preview; return the milliseconds until no slot is in use."""
    page.fill("#num_images", "10")
    page.press("#text", "Enter")
    page.locator(".drawing").first.locator(".tile[data-state=preview]").first.wait_for()
    page.locator(".drawing").first.get_by_role("button", name="Cancel").click()
    clicked = time.perf_counter()
    while "dalle_slots_in_use 0.0" not in urllib.request.urlopen(f"{url}/metrics").read().decode():
        time.sleep(0.005)
    return 1000 * (time.perf_counter() - clicked)


def main(arguments: list[str] | None = None) -> None:
    """Print the medians of several rounds, with the least and the greatest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser's executable")
    given = parser.parse_args(arguments)
    found: dict[str, list[float]] = {}
    with running(our_command(model="tiny", threads=usable_threads(0))) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.add_init_script(WATCH)
        page.goto(f"{server.url}/playground")
        draw(page)
        for _ in tqdm(range(given.rounds), desc="page", unit="round"):
            for state, milliseconds in draw(page).items():
                found.setdefault(f"Enter to {state}", []).append(milliseconds)
            found.setdefault("Cancel to a free slot", []).append(cancel(page, server.url))
        browser.close()
    for name, values in found.items():
        print(f"{name}: {statistics.median(values):.0f} ms ({min(values):.0f} to {max(values):.0f})")


if __name__ == "__main__":
    main()

"""The playground's accessibility: names, contrast, focus, small screens, reduced motion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.end_to_end.browser import Visit
from tests.end_to_end.fonts import use_wide_font

FAULTS = Path(__file__).with_name("access_faults.js")
LAYOUT_FAULTS = Path(__file__).with_name("layout_faults.js")

# WCAG 1.4.12: spacing that readers may set without loss of content.
SPACED = (
    "* { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important }"
    "p { margin-bottom: 2em !important }"
)
LARGE = ":root { font-size: 200% !important }"


def faults_of(page: Page) -> list[str]:
    """Return elements without a name, with a duplicate id or with too little contrast, by WCAG's level AA."""
    found: list[str] = page.evaluate(FAULTS.read_text(encoding="utf-8"))
    return found


def layout_faults_of(page: Page) -> list[str]:
    """Return elements that overflow the screen, or their own frame."""
    found: list[str] = page.evaluate(LAYOUT_FAULTS.read_text(encoding="utf-8"))
    return found


def add_style(page: Page, style: str) -> None:
    """Add rules, as a reader's own style sheet does."""
    add = "(style) => { const sheet = new CSSStyleSheet(); sheet.replaceSync(style); document.adoptedStyleSheets.push(sheet) }"
    page.evaluate(add, style)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_elements_have_a_name_and_enough_contrast(visit: Callable[..., Visit], scheme: str) -> None:
    # Without motion, so that no colour is measured during a transition.
    person = visit(color_scheme=scheme, reduced_motion="reduce")
    page = person.page
    assert faults_of(page) == []
    page.click("#advanced summary")
    page.fill("#seed", "1")
    person.draw("i", 2)  # even the narrowest prompt must have a button of sufficient size
    person.wait_for("done")
    assert faults_of(page) == []
    page.press("#text", "Enter")
    page.fill("#text", " ")
    page.press("#text", "Enter")
    person.problem("text")
    assert faults_of(page) == []
    page.wait_for_selector(".drawing:nth-child(2)")
    person.wait_for("done")
    page.click(".tile .open >> nth=0")
    assert faults_of(page) == []
    page.keyboard.press("Escape")
    page.click("#clear")
    assert faults_of(page) == []


def test_the_check_finds_faults(visit: Callable[..., Visit]) -> None:
    person = visit()
    assert faults_of(person.page) == []
    person.page.evaluate(
        """() => {
            document.querySelector("label[for=seed]").remove();
            document.getElementById("about").style.color = "#bbb";
            document.getElementById("theme").replaceChildren();
            document.querySelector("details").open = true;
            document.querySelector("main").append(Object.assign(document.createElement("p"), { id: "form" }));
        }"""
    )
    found = faults_of(person.page)
    for fault in ("no name: input#seed", "no name: button#theme", "too faint: p#about", "twice: #form"):
        assert [said for said in found if said.startswith(fault)], (fault, found)


@pytest.mark.parametrize(
    ("text", "widths"), [("as it is", (320, 390, 768, 1440, 2560)), ("wide", (320, 768, 1440)), ("large", (320,))]
)
def test_no_width_makes_the_page_wider_than_its_screen(visit: Callable[..., Visit], text: str, widths: tuple[int, ...]) -> None:
    person = visit(viewport={"width": widths[0], "height": 844}, reduced_motion="reduce")
    person.is_refused = True  # for the seed below
    page = person.page
    if text == "wide":
        use_wide_font(page)
        add_style(page, SPACED)
    elif text == "large":
        add_style(page, LARGE)

    def faults_at_each_width() -> dict[int, list[str]]:
        found = {}
        for width in widths:
            page.set_viewport_size({"width": width, "height": 844})
            if faults := layout_faults_of(page):
                found[width] = faults
        return found

    assert faults_at_each_width() == {}
    page.click("#advanced summary")
    page.fill("#seed", "none")
    person.draw("a red circle")
    person.problem("seed")
    page.evaluate("document.getElementById('key-form').hidden = false")
    assert faults_at_each_width() == {}
    page.fill("#seed", str(2**63 - 2))
    person.draw("a-word-without-an-end-" * 9, 2)
    person.wait_for("done")
    page.click("[data-act=again] >> nth=0")
    page.wait_for_selector("#toast.shown")
    assert faults_at_each_width() == {}
    page.click(".tile .open >> nth=0")
    assert faults_at_each_width() == {}
    for width in widths:
        page.set_viewport_size({"width": width, "height": 844})
        box = page.locator("#viewer").bounding_box()
        assert box is not None
        assert box["x"] >= 0 and box["y"] >= 0
        assert box["x"] + box["width"] <= width and box["y"] + box["height"] <= 844
    page.keyboard.press("Escape")
    page.click("#clear")
    assert faults_at_each_width() == {}


def test_the_tab_key_follows_the_reading_order_of_the_form(visit: Callable[..., Visit]) -> None:
    person = visit()
    assert person.focused() == "text"
    order = []
    for _ in range(2):
        person.page.keyboard.press("Tab")
        order.append(person.focused())
    assert order == ["num_images", "draw"]
    person.page.focus("#advanced summary")
    person.page.keyboard.press("Enter")
    order = []
    for _ in range(7):
        person.page.keyboard.press("Tab")
        order.append(person.focused())
    assert order == ["negative_prompt", "seed", "best_of", "temperature", "top_k", "supercondition_factor", "img_format"]
    outline = "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth"
    assert person.page.evaluate(outline) == "solid3px"


def test_screen_readers_hear_the_progress(visit: Callable[..., Visit]) -> None:
    person = visit()
    person.page.evaluate(
        """() => {
            const announcer = document.getElementById("announcer");
            globalThis.heard = [];
            new MutationObserver(() => heard.push(announcer.textContent)).observe(announcer, { childList: true });
        }"""
    )
    person.draw("a red circle")
    person.wait_for("done")
    person.wait_until("heard.includes('Picture 1 of 1 is done.')")
    assert person.page.evaluate("heard[0]") == "Drawing: a red circle"
    # The progress bar has the percentage, on request; announced, it would drown out everything else.
    assert not any("%" in said for said in person.page.evaluate("heard"))


def test_nothing_moves_with_reduced_motion(visit: Callable[..., Visit]) -> None:
    person = visit(reduced_motion="reduce")
    person.draw("a red circle", 4)
    moving = person.page.wait_for_selector(".drawing")
    assert moving is not None
    assert person.page.evaluate("document.getAnimations().length") == 0
    person.wait_for("done")

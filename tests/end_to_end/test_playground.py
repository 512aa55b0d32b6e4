"""The playground in a real Chromium, with the real server and Tiny."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import requests

from tests.end_to_end.browser import Visit
from tests.end_to_end.server_process import ServerProcess

RED_CIRCLE = "a red circle on a blue background"


def image_of_seed(server: ServerProcess, seed: int, **fields: object) -> bytes:
    body = {"text": RED_CIRCLE, "seed": seed, **fields}
    answer = requests.post(f"{server.url}/dalle", json=body, timeout=120).json()
    return base64.b64decode(answer["generatedImgs"][0])


def test_images_are_visible_while_they_are_drawn(visit: Callable[..., Visit]) -> None:
    person = visit()
    person.draw(RED_CIRCLE, 4)
    person.wait_for("done")
    assert person.states() == [["preview", "done"]] * 4
    page = person.page
    assert page.locator(".tile img").evaluate_all("images => images.map((image) => image.naturalWidth)") == [256] * 4
    assert page.input_value("#text") == RED_CIRCLE
    assert person.focused() == "text"


def test_a_click_on_an_example_and_enter_draw_it(visit: Callable[..., Visit]) -> None:
    person = visit()
    person.page.click("#examples button >> nth=2")
    assert person.focused() == "text"
    person.page.fill("#num_images", "1")
    person.page.focus("#text")
    person.page.keyboard.press("Enter")
    person.wait_for("done")
    assert person.page.inner_text(".drawing h3") == "a penguin in the snow"


def test_shift_and_enter_insert_a_newline_and_a_blank_prompt_is_not_drawn(visit: Callable[..., Visit]) -> None:
    person = visit()
    person.page.press("#text", "Shift+Enter")
    assert person.page.input_value("#text") == "\n"
    person.page.press("#text", "Enter")
    assert person.problem("text") == "Type a prompt first."
    assert person.page.locator(".drawing").count() == 0


def test_a_download_is_the_servers_file_named_by_prompt_and_seed(visit: Callable[..., Visit], server: ServerProcess) -> None:
    person = visit()
    person.page.click("#advanced summary")
    person.page.fill("#seed", "7")
    person.page.select_option("#img_format", "png")
    person.draw(RED_CIRCLE)
    person.wait_for("done")
    with person.page.expect_download() as waiting:
        person.page.click("[data-act=download]")
    assert waiting.value.suggested_filename == "a-red-circle-on-a-blue-background-7.png"
    assert Path(waiting.value.path()).read_bytes() == image_of_seed(server, 7, img_format="png")


def test_a_seed_above_javascripts_exact_integers_keeps_all_digits(visit: Callable[..., Visit], server: ServerProcess) -> None:
    person = visit()
    person.page.click("#advanced summary")
    person.page.fill("#seed", str(2**63 - 2))
    person.draw(RED_CIRCLE, 2)
    person.wait_for("done")
    assert person.page.locator(".tile .seed").all_inner_texts() == [f"seed {2**63 - 2}", f"seed {2**63 - 1}"]


def test_an_image_is_enlarged_and_closed_by_keyboard(visit: Callable[..., Visit]) -> None:
    person = visit()
    person.draw(RED_CIRCLE, 2)
    person.wait_for("done")
    page = person.page
    page.focus(".tile:nth-child(1) .open")
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[open]")
    alt = page.locator("#viewer-image")
    assert (alt.get_attribute("alt") or "").startswith("Picture 1 of 2")
    page.keyboard.press("ArrowRight")
    assert (alt.get_attribute("alt") or "").startswith("Picture 2 of 2")
    page.keyboard.press("ArrowRight")  # there is no third image
    page.keyboard.press("Escape")
    person.wait_until("document.activeElement.closest('.tile') === document.querySelectorAll('.tile')[1]")
    assert not page.is_visible("#viewer")


def test_an_image_is_copied(visit: Callable[..., Visit]) -> None:
    person = visit(permissions=["clipboard-read", "clipboard-write"])
    person.draw(RED_CIRCLE)
    person.wait_for("done")
    person.page.click("[data-act=copy]")
    person.page.wait_for_selector("#toast.shown")
    assert person.page.inner_text("#toast") == "The picture is copied."
    assert person.page.evaluate("navigator.clipboard.read().then(([item]) => item.types)") == ["image/png"]


def test_a_message_explains_why_copying_is_unavailable(visit: Callable[..., Visit]) -> None:
    person = visit()
    person.draw(RED_CIRCLE)
    person.wait_for("done")
    person.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")  # as on plain http
    person.page.click("[data-act=copy]")
    person.page.wait_for_selector("#toast.shown")
    assert "only over https or on localhost" in person.page.inner_text("#toast")


def test_a_negative_prompt_is_drawn_by_and_reused(visit: Callable[..., Visit], server: ServerProcess) -> None:
    person = visit()
    page = person.page
    page.click("#advanced summary")
    page.fill("#negative_prompt", " red ")
    page.fill("#seed", "7")
    page.select_option("#img_format", "png")
    person.draw(RED_CIRCLE)
    person.wait_for("done")
    assert "without “red”" in page.inner_text(".meta")
    with page.expect_download() as waiting:
        page.click("[data-act=download]")
    expected = image_of_seed(server, 7, img_format="png", negative_prompt="red")
    assert Path(waiting.value.path()).read_bytes() == expected != image_of_seed(server, 7, img_format="png")
    page.click("[data-act=reuse]")
    assert page.input_value("#negative_prompt") == "red"


def test_a_seed_and_settings_can_be_reused(visit: Callable[..., Visit]) -> None:
    person = visit()
    person.page.click("#advanced summary")
    person.page.fill("#temperature", "0,5")  # a decimal comma
    person.draw(RED_CIRCLE, 2)
    person.wait_for("done")
    page = person.page
    seed = page.inner_text(".tile:nth-child(2) .seed").removeprefix("seed ")
    page.click(".tile:nth-child(2) [data-act=again]")
    assert (page.input_value("#seed"), page.input_value("#num_images")) == (seed, "1")
    page.fill("#text", "a green square")
    page.click("#draw")
    page.wait_for_selector(".drawing:nth-child(2)")
    person.wait_for("done")
    assert page.inner_text(".drawing:first-child .seed") == f"seed {seed}"
    assert "temperature 0.5" in page.inner_text(".drawing:first-child .meta")
    page.click(".drawing:nth-child(2) [data-act=more]")
    page.wait_for_selector(".drawing:nth-child(3)")
    person.wait_for("done")
    assert page.inner_text(".drawing:first-child h3") == RED_CIRCLE
    assert page.input_value("#seed") == ""
    assert "2 pictures · temperature 0.5" in page.inner_text(".drawing:first-child .meta")
    assert page.inner_text(".drawing:first-child .seed >> nth=1") != f"seed {seed}"


def test_drawings_and_the_typed_prompt_survive_a_reload_until_cleared(visit: Callable[..., Visit]) -> None:
    person = visit()
    person.draw(RED_CIRCLE, 2)
    person.wait_for("done")
    seeds = person.page.locator(".tile .seed").all_inner_texts()
    person.page.fill("#text", "not sent yet")
    page = person.open()
    assert page.input_value("#text") == "not sent yet"
    person.wait_for("done")
    assert page.inner_text(".drawing h3") == RED_CIRCLE
    assert page.locator(".tile .seed").all_inner_texts() == seeds
    page.locator(".tile img").last.scroll_into_view_if_needed()
    person.wait_until("[...document.querySelectorAll('.tile img')].every((image) => image.naturalWidth === 256)")
    page.click("#clear")
    page.click("[data-act=forget]")
    page.wait_for_selector("#empty")
    assert page.locator(".drawing").count() == 0
    page = person.open()
    page.wait_for_selector("#empty")
    assert page.locator(".drawing").count() == 0


def test_one_drawing_is_removed(visit: Callable[..., Visit]) -> None:
    person = visit()
    for text in ("a red circle", "a blue star"):
        person.draw(text)
        person.page.wait_for_selector(f".drawing:has-text('{text}')")
        person.wait_for("done")
    person.page.click(".drawing:first-child [data-act=remove]")
    person.page.wait_for_selector(".drawing:has-text('a blue star')", state="detached")
    page = person.open()
    person.wait_for("done")
    assert page.locator(".drawing h3").all_inner_texts() == ["a red circle"]


def test_a_drawing_cleared_while_it_is_drawn_does_not_come_back(visit: Callable[..., Visit]) -> None:
    person = visit()
    person.draw(RED_CIRCLE, 10)
    person.page.click("#clear")
    person.page.click("[data-act=forget]")
    person.page.wait_for_selector("#empty")
    assert person.focused() == "drawings-title"
    page = person.open()
    page.wait_for_selector("#empty")
    assert page.locator(".drawing").count() == 0


def test_the_theme_is_kept(visit: Callable[..., Visit]) -> None:
    person = visit(color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = person.page.evaluate(paper)
    person.page.click("#theme")  # light
    assert person.page.evaluate(paper) == light
    person.page.click("#theme")  # dark
    dark = person.page.evaluate(paper)
    assert dark != light
    assert person.open().evaluate(paper) == dark

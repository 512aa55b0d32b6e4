"""Failures in the playground: in a real Chromium, with the real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.browser import Visit
from tests.end_to_end.callers import eventually_shows, metric
from tests.end_to_end.server_process import FaultyServer, ServerProcess

RED_CIRCLE = "a red circle on a blue background"
ONE_AT_A_TIME = ("--max_batch_size", "1", "--max_queue", "1")
IS_FREE = "fetch('metrics').then((answer) => answer.text()).then((text) => /^dalle_slots_in_use 0\\.0$/m.test(text))"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    with FaultyServer(tmp_path_factory.mktemp("faults"), *ONE_AT_A_TIME) as running:
        yield running


@pytest.fixture
def holding(running: FaultyServer) -> Iterator[FaultyServer]:
    """Return a server with one slot and a queue of one image, whose drawing is held until it is healed."""
    running.fault("step hold")
    yield running
    running.heal()
    assert eventually_shows(running, queue_images=0, slots_in_use=0)


def test_cancelling_frees_the_slot_and_a_retry_is_drawn(visit: Callable[..., Visit], holding: FaultyServer) -> None:
    drawn = metric(holding, "dalle_images_drawn_total")
    person = visit(holding.url)
    person.draw(RED_CIRCLE, 2)
    person.page.wait_for_selector(".sentence:has-text('turn')")
    person.page.click("[data-act=cancel]")
    person.wait_for("cancelled")
    assert person.page.inner_text(".sentence") == "Cancelled with 0 of 2 drawn."
    assert person.focused() == "retry"
    holding.heal()
    person.wait_until(IS_FREE)
    assert metric(holding, "dalle_images_drawn_total") == drawn
    person.page.click("[data-act=retry]")
    person.wait_for("done")
    assert person.page.locator(".tile img").count() == 2


def test_a_waiting_drawing_shows_its_place_in_the_queue(visit: Callable[..., Visit], holding: FaultyServer) -> None:
    first, second = visit(holding.url), visit(holding.url)
    first.draw(RED_CIRCLE)
    first.page.wait_for_selector(".sentence:has-text('turn')")
    second.draw("a green star")
    second.page.wait_for_selector(".sentence:has-text('In the queue, at place 1.')")
    holding.heal()
    for person in (first, second):
        person.wait_for("done")


def test_a_full_queue_is_explained_and_a_later_retry_is_drawn(visit: Callable[..., Visit], holding: FaultyServer) -> None:
    first, second = visit(holding.url), visit(holding.url)
    second.is_refused = True
    first.draw(RED_CIRCLE, 2)
    first.page.wait_for_selector(".sentence:has-text('turn')")
    second.draw("a green star")
    second.wait_for("failed")
    assert "Try again in " in second.page.inner_text(".sentence")
    assert second.page.input_value("#text") == "a green star"
    holding.heal()
    first.wait_for("done")
    second.page.click("[data-act=retry]")
    second.wait_for("done")


def test_a_killed_server_is_noticed_and_the_drawing_resumes_after_its_restart(
    visit: Callable[..., Visit], tmp_path: Path
) -> None:
    with FaultyServer(tmp_path, *ONE_AT_A_TIME) as killed:
        killed.fault("step hold")
        person = visit(killed.url)
        person.is_refused = True
        person.draw(RED_CIRCLE, 2)
        person.page.wait_for_selector(".sentence:has-text('turn')")
    person.page.wait_for_selector("#away:has-text('not reachable')")
    assert "not reachable" in person.page.inner_text(".sentence")
    person.page.fill("#text", "typed meanwhile")
    with ServerProcess("--port", str(killed.port)):
        person.wait_for("done")
        assert person.page.locator(".tile img").count() == 2
        assert not person.page.is_visible("#away")
        assert person.page.input_value("#text") == "typed meanwhile"


def test_a_page_opened_while_the_server_restarts_gets_the_model_later(visit: Callable[..., Visit], server: ServerProcess) -> None:
    person = visit()
    person.is_refused = True
    person.page.route("**/playground/model.json", lambda route: route.abort(), times=1)
    page = person.open()
    assert "Tiny is loaded" in page.inner_text("#about")
    page.wait_for_selector("#toast:has-text('The server is back.')")


def test_an_invalid_seed_is_explained_at_its_field(visit: Callable[..., Visit]) -> None:
    person = visit()
    person.is_refused = True
    person.page.click("#advanced summary")
    person.page.fill("#seed", "minus one")
    person.page.click("#advanced summary")
    person.draw(RED_CIRCLE)
    accepted = "a whole number from 0 to 9223372036854775807, or -1 for a random one"
    assert person.problem("seed") == f'Seed must be {accepted}, not "minus one".'
    assert person.focused() == "seed"
    assert person.page.get_attribute("#seed", "aria-invalid") is not None
    assert person.page.locator(".drawing").count() == 0
    assert person.page.input_value("#text") == RED_CIRCLE
    person.page.fill("#seed", "1")
    person.page.press("#text", "Enter")
    person.wait_for("done")
    assert not person.page.is_visible("#seed-error")


def test_a_key_is_requested_and_the_drawing_resumes(visit: Callable[..., Visit]) -> None:
    with ServerProcess(DALLE_API_KEY="open-sesame") as locked:
        person = visit(locked.url)
        person.is_refused = True
        person.draw(RED_CIRCLE)
        person.page.wait_for_selector("#key-form:not([hidden])")
        assert person.focused() == "key"
        person.page.keyboard.type("open-barley")
        person.page.keyboard.press("Enter")
        assert person.problem("key") == "The server does not accept this key."
        person.page.fill("#key", "open-sesame")
        person.page.press("#key", "Enter")
        person.wait_for("done")
        assert person.page.inner_text(".drawing h3") == RED_CIRCLE
        assert not person.page.is_visible("#key-form")
        person.open()
        person.draw("a green star")
        person.page.wait_for_selector(".drawing:nth-child(2)")
        person.wait_for("done")


def test_a_failed_drawing_says_so_and_can_be_retried(visit: Callable[..., Visit], holding: FaultyServer) -> None:
    person = visit(holding.url)
    holding.fault("step raise")
    person.draw(RED_CIRCLE)
    person.wait_for("failed")
    assert "could not be drawn" in person.page.inner_text(".sentence")
    person.page.click("[data-act=retry]")
    person.wait_for("done")


def test_a_page_left_while_drawing_offers_to_draw_again(visit: Callable[..., Visit], holding: FaultyServer) -> None:
    person = visit(holding.url)
    person.draw(RED_CIRCLE)
    person.page.wait_for_selector(".sentence:has-text('turn')")
    page = person.open()
    person.wait_for("left")
    assert page.inner_text(".drawing h3") == RED_CIRCLE
    assert page.inner_text(".sentence") == "The page was closed with 0 of 1 drawn."
    holding.heal()
    page.click("[data-act=retry]")
    person.wait_for("done")

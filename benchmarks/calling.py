"""Clients of a running server, each another caller to one that trusts a proxy's header (`--trust_proxy`)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import requests

PROMPTS = ("a red circle on a blue background", "two yellow hearts", "a small green star at the top", "a pink ring")
TIMEOUT_SECONDS = 3600
_HELLO_SECONDS = 0.25  # between two requests of `GET /`: 50 per second took a tenth of a core from the drawing


@dataclass
class Latencies:
    """Seconds that concurrent requests took."""

    total: float  # until the last image
    each: list[float]  # per image
    hellos: list[float]  # per `GET /` in the meantime


def draw(url: str, number: int) -> float:
    """Request one image; return the seconds."""
    started = time.perf_counter()
    answer = requests.post(f"{url}/dalle", json=_body(number), headers=caller(number), timeout=TIMEOUT_SECONDS)
    answer.raise_for_status()
    assert len(answer.json()["generatedImgs"]) == 1
    return time.perf_counter() - started


def draw_together(url: str, count: int, *, say_hello: bool = False) -> Latencies:
    """Request `count` images at once, one per client; with `say_hello`, another client repeats `GET /` in the meantime."""
    hellos: list[float] = []
    done = threading.Event()

    def greet() -> None:
        while not done.wait(_HELLO_SECONDS):
            started = time.perf_counter()
            assert requests.get(url, timeout=TIMEOUT_SECONDS).text == "hello world"
            hellos.append(time.perf_counter() - started)

    with ThreadPoolExecutor(count + 1) as pool:
        greeter = pool.submit(greet) if say_hello else None
        started = time.perf_counter()
        each = list(pool.map(lambda number: draw(url, number), range(count)))
        seconds = time.perf_counter() - started
        done.set()
        if greeter is not None:
            greeter.result()
    return Latencies(seconds, each, hellos)


def first_preview(url: str) -> float:
    """Return the seconds until an image's first preview; read the rest of the stream too."""
    started, seconds = time.perf_counter(), 0.0
    for name, _ in _stream(url, 0):
        if name == "preview" and not seconds:
            seconds = time.perf_counter() - started
    assert seconds
    return seconds


def draw_late(url: str, count: int) -> float:
    """Request one image when `count` others are half drawn; return the seconds that it took."""
    halves = [threading.Event() for _ in range(count)]

    def watch(number: int) -> None:
        for name, data in _stream(url, number, previews=False):
            if name == "image" or data.get("percent", 0) >= 50:
                halves[number].set()

    with ThreadPoolExecutor(count) as pool:
        watching = [pool.submit(watch, number) for number in range(count)]
        for number, half in enumerate(halves):
            while not half.wait(1):
                if watching[number].done():
                    watching[number].result()  # raises the client's error
        seconds = draw(url, count)
        for each in watching:
            each.result()
    return seconds


def caller(number: int) -> dict[str, str]:
    """Return a header that names a caller, of an address that nobody has."""
    return {"X-Forwarded-For": f"192.0.2.{1 + number % 254}"}


def _body(number: int) -> dict[str, Any]:
    return {"text": PROMPTS[number % len(PROMPTS)], "seed": number}


def _stream(url: str, number: int, previews: bool = True) -> Iterator[tuple[str, dict[str, Any]]]:
    """Request one image as a stream; yield each event's name and data."""
    body = {**_body(number), "stream": True, "previews": previews}
    headers = caller(number)
    with requests.post(f"{url}/dalle", json=body, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as answer:
        answer.raise_for_status()
        name = ""
        for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))
        assert name == "done", name

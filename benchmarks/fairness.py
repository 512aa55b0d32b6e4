"""How long one caller waits while another floods the server, compared with another who asks for some images once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import requests
from tqdm import tqdm

from benchmarks.calling import PROMPTS, TIMEOUT_SECONDS, caller
from benchmarks.figures import Figure, Figures
from benchmarks.plan import Plan
from benchmarks.server_process import our_command, running

FLOOD = 64  # requests of one image that one caller keeps up
TOGETHER = 2  # images of the single request; with four candidates each as many as one caller's share of the batch
ASKED_PER_ROUND = 5
_RETRY_SECONDS = 0.25
_FLOODER, _OTHER = caller(0), caller(1)


def measure_fairness(plan: Plan, figures: Figures) -> None:
    """Measure the built-in Tiny, with callers named by a proxy's header."""
    figure = Figure(
        "fairness",
        f"an image, while another caller keeps {FLOOD} requests up",
        "s",
        "lasts",
        f"while another caller draws {TOGETHER}",
    )
    with running(our_command(model="tiny", threads=plan.threads)) as server:
        for _ in tqdm(range(plan.rounds), desc="fairness", unit="round"):
            alone = []
            for number in range(ASKED_PER_ROUND):
                with ThreadPoolExecutor(1) as pool:
                    single = pool.submit(_ask, server.url, _FLOODER, number, TOGETHER)
                    _wait_until_drawing(server.url, TOGETHER)
                    alone.append(_ask(server.url, _OTHER, number))
                    single.result()
            with _flood(server.url):
                _wait_until_drawing(server.url, 1, waiting=FLOOD // 2)
                flooded = []
                for number in range(ASKED_PER_ROUND):
                    flooded.append(_ask(server.url, _OTHER, number))
                    time.sleep(0.1 * number)  # at another moment of the flood's images
            for mine, beside in zip(flooded, alone, strict=True):
                figures.add(figure, mine, beside)


@contextmanager
def _flood(url: str) -> Iterator[None]:
    """Keep up requests of one image until the end of the block; those that the queue refuses are sent again."""
    done = threading.Event()

    def knock(number: int) -> None:
        while not done.is_set():
            try:
                _ask(url, _FLOODER, number)
            except requests.HTTPError as error:
                if error.response.status_code != 429:
                    raise
                done.wait(_RETRY_SECONDS)

    with ThreadPoolExecutor(FLOOD) as pool:
        knocking = [pool.submit(knock, number) for number in range(FLOOD)]
        try:
            yield
        finally:
            done.set()
        for each in knocking:
            each.result()


def _ask(url: str, name: dict[str, str], number: int, images: int = 1) -> float:
    """Request images as a caller; return the seconds."""
    body = {"text": PROMPTS[number % len(PROMPTS)], "seed": number, "num_images": images}
    started = time.perf_counter()
    answer = requests.post(f"{url}/dalle", json=body, headers=name, timeout=TIMEOUT_SECONDS)
    answer.raise_for_status()
    assert len(answer.json()["generatedImgs"]) == images
    return time.perf_counter() - started


def _wait_until_drawing(url: str, images: int, waiting: int = 0) -> None:
    """Wait until so many images are drawn at once, and so many wait."""
    while True:
        lines = requests.get(f"{url}/metrics", timeout=TIMEOUT_SECONDS).text.splitlines()
        numbers = dict(line.split(" ", 1) for line in lines if line.startswith(("dalle_slots_in_use ", "dalle_queue_images ")))
        if float(numbers["dalle_slots_in_use"]) >= images and float(numbers["dalle_queue_images"]) >= waiting:
            return
        time.sleep(0.005)

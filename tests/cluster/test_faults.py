"""Long faults: replicas are killed again and again under load, a node is lost, replicas come and go with the load."""

from __future__ import annotations

import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.cluster.processes import descendants, needs_ray, replicas_of, title
from tests.end_to_end.callers import draw, eventually, eventually_shows, metric
from tests.end_to_end.server_process import ServerProcess, environment

pytestmark = [needs_ray, pytest.mark.soak, pytest.mark.timeout(900)]

ADDRESS = "127.0.0.1:6390"  # of the head of several nodes
CALLERS = 32
SECONDS = 60
KILL_EVERY = 5
PROMPTS = ("a red circle", "two yellow hearts", "a small green star at the top")


class Load:
    """Callers that each draw one image after the other, with seeds of their own."""

    def __init__(self, server: ServerProcess, callers: int = CALLERS) -> None:
        self.images: dict[int, list[str]] = {}
        self.failures: list[str] = []
        self.seconds: list[float] = []
        self._server = server
        self._is_over = threading.Event()
        self._callers = [threading.Thread(target=self._call, args=(number,)) for number in range(callers)]

    def __enter__(self) -> Load:
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.end()

    def end(self) -> None:
        """Wait for the last images, and draw no more."""
        self._is_over.set()
        for caller in self._callers:
            caller.join()

    def _call(self, number: int) -> None:
        session = requests.Session()
        seed = 10_000 * number
        while not self._is_over.is_set():
            seed += 1
            began = time.monotonic()
            body = {"text": PROMPTS[seed % 3], "seed": seed, "img_format": "png"}
            answer = session.post(f"{self._server.url}/dalle", json=body, timeout=300)
            self.seconds.append(time.monotonic() - began)
            if answer.status_code == 200:
                self.images[seed] = answer.json()["generatedImgs"]
            else:
                self.failures.append(answer.text)


def assert_complete(load: Load, server: ServerProcess, drawn_before: float) -> None:
    """Check that no image was lost, drawn for its caller twice, or different from a single process's."""
    assert load.failures == []
    assert all(len(images) == 1 for images in load.images.values())
    assert metric(server, "dalle_images_drawn_total") - drawn_before == len(load.images) == len(load.seconds)
    assert metric(server, "dalle_images_failed_total") == metric(server, "dalle_images_cancelled_total") == 0
    with ServerProcess() as alone:
        wrong = [seed for seed, images in load.images.items() if draw(alone, text=PROMPTS[seed % 3], seed=seed) != images]
    assert wrong == []


def test_replicas_killed_every_five_seconds_lose_no_image(capsys: pytest.CaptureFixture[str]) -> None:
    with ServerProcess("--replicas", "2", "--max_batch_size", "8", "--log_level", "warning") as server:
        assert eventually_shows(server, machines=2)
        drawn_before, killed = metric(server, "dalle_images_drawn_total"), 0
        with Load(server) as load:
            end = time.monotonic() + SECONDS
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(KILL_EVERY, left))
                if running := replicas_of(server.process.pid):
                    os.kill(random.choice(running), signal.SIGKILL)
                    killed += 1
        assert_complete(load, server, drawn_before)
        again = sum("drawn again" in line for line in server.log)
        with capsys.disabled():
            print(
                f"\n{len(load.images)} images in {SECONDS} s, {killed} replicas killed, {again} calls drawn again; "
                f"median {statistics.median(load.seconds):.1f} s, longest {max(load.seconds):.1f} s"
            )
        assert killed >= SECONDS // KILL_EVERY - 2 and again > 0


class Nodes:
    """A cluster of nodes, each with an address of 127.0.0.0/8 and room for one replica; the first is its head."""

    def __init__(self, folder: Path) -> None:
        self.variables = {  # the environment to join it
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "5" * 64,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(folder),
            "RAY_worker_niceness": "0",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        self.started: list[subprocess.Popen[str]] = []

    def start(self, cpus: int = 1) -> None:
        """Start one more node."""
        number = len(self.started) + 1
        where = ["--head", "--port=6390", "--include-dashboard=false"] if number == 1 else [f"--address={ADDRESS}"]
        command = [str(Path(sys.executable).parent / "ray"), "start", "--block", f"--num-cpus={cpus}", "--disable-usage-stats"]
        self.started.append(
            subprocess.Popen(
                [*command, *where, f"--node-ip-address=127.0.0.{number}", "--object-store-memory=100000000"],
                env={**environment(), **self.variables},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # it would stop the tests' process group with the terminal's
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
        # Return only then: two that start at once on one machine take the same ports.
        assert eventually(lambda: any("/raylet " in title(pid) for pid in descendants(self.started[-1].pid)))
        assert number > 1 or eventually(lambda: is_open("127.0.0.1", 6390))
        time.sleep(2)

    def kill(self, number: int) -> None:
        """End all processes of a node, 0 being the head."""
        node = self.started[number]
        for pid in [*descendants(node.pid), node.pid]:
            end(pid)

    def replicas(self) -> list[list[int]]:
        """Return the replicas of each node."""
        return [replicas_of(node.pid) for node in self.started]


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    running = Nodes(Path("/tmp") / f"ray-{os.getpid()}")  # a short path, for its sockets
    yield running
    for number in reversed(range(len(running.started))):
        running.kill(number)
        running.started[number].wait()


def end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def is_open(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for a condition; return how many seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not come to pass"
        time.sleep(0.2)
    return time.monotonic() - began


def test_three_nodes_lose_one_and_a_second_front_joins(nodes: Nodes, capsys: Any) -> None:
    for _ in range(3):
        nodes.start()
    flags = ("--replicas", "3", "--ray_address", ADDRESS, "--max_batch_size", "8", "--log_level", "warning")
    with ServerProcess(*flags, **nodes.variables) as server:
        assert eventually_shows(server, machines=3)
        running = nodes.replicas()
        assert [len(each) for each in running] == [1, 1, 1]
        with ServerProcess(*flags, **nodes.variables) as second:  # with the same settings, so no replica starts again
            assert eventually_shows(second, machines=3)
            assert draw(second, seed=1) == draw(server, seed=1)
            assert second.stop(within=90) == 0
        assert nodes.replicas() == running
        drawn_before = metric(server, "dalle_images_drawn_total")
        with Load(server) as load:
            time.sleep(3)
            nodes.kill(2)
            killed = time.monotonic()
            noticed = until(lambda: metric(server, "dalle_machines") == 2, 60)
            time.sleep(max(0.0, 15 - (time.monotonic() - killed)))
        assert_complete(load, server, drawn_before)
        with capsys.disabled():
            print(
                f"\n{len(load.images)} images while a node died, noticed after {noticed:.1f} s; longest {max(load.seconds):.1f} s"
            )
        assert server.stop(within=90) == 0
        assert nodes.replicas()[0] != []  # for the next front


def test_a_full_cluster_is_waited_for_and_takes_nodes_as_they_join(nodes: Nodes) -> None:
    nodes.start(cpus=0)
    server = ServerProcess("--replicas", "2", "--ray_address", ADDRESS, "--log_level", "warning", **nodes.variables)
    try:
        # Ray Serve's words, with the resources that a replica needs and those that there are
        until(lambda: any("no machine is ready yet" in line and "to be scheduled" in line for line in server.log), 120)
        nodes.start()
        with server:
            assert eventually_shows(server, machines=1)
            first = draw(server, seed=3)
            nodes.start()
            assert eventually_shows(server, machines=2)
            assert draw(server, seed=3) == first
    finally:
        server.process.kill()


def test_an_upgrade_loses_no_image(nodes: Nodes, capsys: Any) -> None:
    for _ in range(2):
        nodes.start()
    flags = ("--replicas", "2", "--ray_address", ADDRESS, "--log_level", "warning")
    with ServerProcess(*flags, "--max_batch_size", "8", **nodes.variables) as old:
        assert eventually_shows(old, machines=2)
        before = {pid for each in nodes.replicas() for pid in each}
        drawn_before, began = metric(old, "dalle_images_drawn_total"), time.monotonic()
        # Other settings, as a new version has. Ray Serve replaces the replicas while both fronts run.
        new_flags = (*flags, "--max_batch_size", "7")
        with Load(old, callers=8) as load, ServerProcess(*new_flags, **nodes.variables) as new:
            ready = time.monotonic() - began
            replaced = ready + until(lambda: before.isdisjoint(pid for each in nodes.replicas() for pid in each), 240)
            assert eventually_shows(new, machines=2, slots=14)
            assert eventually_shows(old, machines=2)
            count = len(load.seconds)
            until(lambda: len(load.seconds) > count + 8, 120)
            assert draw(new, seed=2) == draw(old, seed=2)
            load.end()
            assert_complete(load, old, drawn_before + 1)
            assert old.stop(within=90) == 0
            assert len(draw(new, seed=4)) == 1
        with capsys.disabled():
            print(
                f"\n{len(load.images)} images during an upgrade; the new front was ready after {ready:.0f} s, the old replicas "
                f"gone after {replaced:.0f} s; median {statistics.median(load.seconds):.1f} s, longest {max(load.seconds):.1f} s"
            )


def test_replicas_come_and_go_with_the_images_that_wait(capsys: Any) -> None:
    flags = ("--replicas", "auto", "--max_replicas", "2", "--max_batch_size", "4", "--log_level", "warning")
    with ServerProcess(*flags) as server:
        assert eventually_shows(server, machines=1)
        drawn_before = metric(server, "dalle_images_drawn_total")
        with Load(server) as load:
            up = until(lambda: metric(server, "dalle_machines") == 2, 120)
        down = until(lambda: metric(server, "dalle_machines") == 1, 240)
        assert_complete(load, server, drawn_before)
        with capsys.disabled():
            print(f"\na second replica after {up:.0f} s of load, gone {down:.0f} s after it")

"""Clients that send or read one byte per second, with a full queue: health checks still respond."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, suppress

import requests

from tests.end_to_end.callers import eventually
from tests.end_to_end.server_process import ServerProcess
from tests.faults.calling import connect, metrics, raw_post

ROUTES = ["/", "/health/live", "/health/ready", "/metrics"]
ROUNDS = 30
BOUND_SECONDS = 10.0  # long enough for a busy machine; docs/operations.md has typical values
SENDERS, READERS, WAITING = 25, 25, 200
IMAGES = 10  # per waiting client
BATCH = 8


class SlowCallers:
    """Many connections that send, or read, one byte per second until stopped."""

    def __init__(self, senders: list[socket.socket], readers: list[socket.socket]) -> None:
        self._senders, self._readers = senders, readers
        self._message = iter(raw_post(text="a red circle" + " " * 10_000))
        self._is_over = threading.Event()
        self.sent = self.read = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> SlowCallers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(1.0):
            byte = bytes([next(self._message)])
            self.sent += sum(sender.send(byte) for sender in self._senders)
            for reader in self._readers:
                with suppress(BlockingIOError):
                    self.read += len(reader.recv(1, socket.MSG_DONTWAIT))


def latencies(server: ServerProcess, slow: SlowCallers) -> dict[str, list[float]]:
    """Request each route in turn until all slow clients have sent or read; return the seconds of each response."""
    taken: dict[str, list[float]] = {route: [] for route in ROUTES}
    while len(taken["/"]) < ROUNDS or slow.sent < 3 * SENDERS or slow.read < 3 * READERS:
        for route in ROUTES:
            started = time.perf_counter()
            answer = requests.get(f"{server.url}{route}", timeout=120)
            taken[route].append(time.perf_counter() - started)
            assert answer.status_code == 200, (route, answer.text)
    return taken


def test_simple_requests_respond_with_slow_clients_and_a_full_queue() -> None:
    limits = {"max_batch_size": BATCH, "max_queue": WAITING * IMAGES - BATCH, "max_queue_per_caller": WAITING * IMAGES - BATCH}
    flags = [word for name, limit in limits.items() for word in (f"--{name}", str(limit))]
    large = {"prompt": "a red circle", "size": "2048x2048", "output_format": "jpeg"}  # larger than a connection's buffers
    with ServerProcess(*flags, "--log_level", "warning") as server, ExitStack() as stack:
        readers = [stack.enter_context(connect(server, receive_buffer=1024)) for _ in range(READERS)]
        for reader in readers:
            reader.sendall(raw_post("/v1/images/generations", **large))
        assert eventually(lambda: metrics(server)["dalle_images_drawn_total"] == 1 + READERS)
        senders = [stack.enter_context(connect(server)) for _ in range(SENDERS)]
        for _ in range(WAITING):
            stack.enter_context(connect(server)).sendall(raw_post(text="a red circle", num_images=IMAGES))
        assert eventually(lambda: metrics(server)["dalle_queue_images"] >= WAITING * IMAGES * 0.9)
        with SlowCallers(senders, readers) as slow:
            taken = latencies(server, slow)
        waiting = metrics(server)["dalle_queue_images"]
        assert waiting > WAITING * IMAGES / 2  # most are still waiting
    assert max(max(seconds) for seconds in taken.values()) < BOUND_SECONDS
    print(f"\n{WAITING} clients with {waiting:.0f} images waiting, {SENDERS} slow senders, {READERS} slow readers:")
    for route, seconds in taken.items():
        ordered = [1000 * each for each in sorted(seconds)]
        print(f"  {route}: median {ordered[len(ordered) // 2]:.0f} ms, 95 % {ordered[int(0.95 * len(ordered))]:.0f} ms")

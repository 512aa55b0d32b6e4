"""The real server with two replicas on this machine, by Ray Serve."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from tests.cluster.processes import descendants, environment_of, listening, needs_ray, replicas_of, title
from tests.end_to_end.callers import ask, draw, eventually, eventually_shows, metric, post
from tests.end_to_end.server_process import ServerProcess, environment

pytestmark = [needs_ray, pytest.mark.slow, pytest.mark.timeout(600)]

IMAGES = 8
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}  # as /proc/net has them


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--replicas", "2", "--max_batch_size", "4", "--step_timeout", "20", "--max_images", "25") as running:
        yield running
        running.stop(within=90)


@pytest.fixture(scope="module")
def images(server: ServerProcess) -> list[str]:
    """Return the images of one request, which a single process draws."""
    with ServerProcess() as alone:
        return draw(alone, seed=5, num_images=IMAGES)


def kill_one_that_draws(server: ServerProcess, number: signal.Signals) -> int:
    """Send a signal to one of the replicas, both of which draw."""
    assert eventually_shows(server, machines=2)
    victim = replicas_of(server.process.pid)[0]
    os.kill(victim, number)
    return victim


def test_both_replicas_draw_what_one_process_draws(server: ServerProcess, images: list[str]) -> None:
    assert eventually_shows(server, machines=2, slots=8)
    assert len(replicas_of(server.process.pid)) == 2
    assert draw(server, seed=5, num_images=IMAGES) == images
    assert eventually(lambda: metric(server, "dalle_step_duration_seconds_count") > 256)


def test_a_picture_may_be_larger_than_a_message_of_grpc_usually_is(server: ServerProcess) -> None:
    [picture] = draw(server, seed=5, num_images=25, seamless=True)
    width, height = Image.open(BytesIO(b64decode(picture))).size
    assert width == height == 5 * 256 and width * height * 3 > 4 * 2**20


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_lost_replicas_images_are_drawn_by_the_other(number: signal.Signals, server: ServerProcess, images: list[str]) -> None:
    drawn = metric(server, "dalle_images_drawn_total")
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(draw, server, seed=5, num_images=IMAGES)
        assert eventually_shows(server, slots_in_use=IMAGES)
        victim = kill_one_that_draws(server, number)
        assert drawing.result() == images
    assert metric(server, "dalle_images_drawn_total") == drawn + IMAGES
    assert metric(server, "dalle_images_failed_total") == 0
    assert eventually(lambda: victim not in replicas_of(server.process.pid) and metric(server, "dalle_machines") == 2)


def test_a_client_that_goes_away_frees_the_slots_of_all_machines(server: ServerProcess) -> None:
    with ask(server, num_images=IMAGES):
        assert eventually_shows(server, slots_in_use=IMAGES)
    assert eventually_shows(server, slots_in_use=0, queue_images=0)


def test_only_this_machine_reaches_the_ports_and_only_with_the_token(server: ServerProcess) -> None:
    processes = {server.process.pid, *descendants(server.process.pid)}
    assert any(title(pid).startswith("ray::ServeController") for pid in processes)
    addresses = {address for address, _ in listening(processes)}
    assert len(addresses) >= 2 and addresses <= LOOPBACK
    directory = directory_of(server)
    [(_, port)] = listening({directory})
    token = environment_of(directory)["RAY_AUTH_TOKEN"]
    assert has_joined(port, token)
    assert not has_joined(port, "0" * len(token))


def test_a_replica_takes_calls_only_with_the_token(server: ServerProcess) -> None:
    token = environment_of(directory_of(server))["RAY_AUTH_TOKEN"]
    [replica, *_] = replicas_of(server.process.pid)
    statuses = {port: status_of_call(port, token) for _, port in listening({replica})}
    [port] = [port for port, status in statuses.items() if status not in ("UNIMPLEMENTED", "UNAVAILABLE", "DEADLINE_EXCEEDED")]
    assert statuses[port] != "UNAUTHENTICATED"  # the call itself is nonsense, and fails only once it is let in
    assert status_of_call(port, "0" * len(token)) == status_of_call(port, None) == "UNAUTHENTICATED"


def directory_of(server: ServerProcess) -> int:
    """Return the process that keeps the cluster's directory."""
    processes = descendants(server.process.pid)
    return next(pid for pid in processes if title(pid).split(" ")[0].endswith("gcs_server"))


def status_of_call(port: int, token: str | None) -> str:
    """Call a replica's method by gRPC, without arguments; return the status."""
    import grpc

    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def has_joined(port: int, token: str) -> bool:
    """Try to join a cluster with a token; return whether that succeeded."""
    join = f"import ray; ray.init(address='127.0.0.1:{port}', logging_level='ERROR'); print('joined')"
    caller = {**environment(), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_USAGE_STATS_ENABLED": "0"}
    run = subprocess.run([sys.executable, "-c", join], env=caller, capture_output=True, text=True, timeout=120)
    if run.returncode == 0:
        return "joined" in run.stdout
    assert "nauthenticated" in run.stderr or "token" in run.stderr.lower(), run.stderr
    return False


def test_a_full_queue_answers_429_for_all_machines_together(server: ServerProcess) -> None:
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda number: post(server, num_images=8, seed=number), range(30)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and {answer.status_code for answer in answers} == {200, 429}
    assert all(1 <= int(answer.headers["Retry-After"]) <= 120 for answer in refused)


def test_a_drain_answers_accepted_requests_and_leaves_no_process(images: list[str]) -> None:
    own = ServerProcess("--replicas", "2", "--max_batch_size", "4")
    with own as running, ThreadPoolExecutor(1) as pool:
        assert eventually_shows(running, machines=2)
        drawing: Any = pool.submit(draw, running, seed=5, num_images=IMAGES)
        assert eventually_shows(running, slots_in_use=IMAGES)
        processes = list(descendants(running.process.pid))
        assert running.stop(within=90) == 0
        assert drawing.result() == images
    assert eventually(lambda: not any(title(pid) for pid in processes))

"""Starting and stopping the real server, with valid and invalid settings."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from PIL import Image

from consts import EXIT_BAD_CHECKPOINT, EXIT_BAD_SETTING, EXIT_OK, SPARE_FILES, START_FILES
from tests.end_to_end.callers import eventually
from tests.end_to_end.server_process import ROOT, ServerProcess, run_app
from tests.ipv6 import needs_ipv6

REQUEST = {"text": "a red circle"}


def test_a_start_prints_its_steps_and_then_the_address(server: ServerProcess) -> None:
    steps = [
        r"Loading DALL-E Tiny",
        r"Loaded in [\d.]+ s",
        r"Warm: one image takes [\d.]+ s",
        r"Serving at http://127\.0\.0\.1:\d+",
    ]
    found = [re.search(step, server.output) for step in steps]
    places = [match.start() for match in found if match]
    assert len(places) == len(steps)
    assert places == sorted(places)
    assert server.output.count("Serving at") == 1
    assert "--host 0.0.0.0" in server.output


@needs_ipv6
def test_both_addresses_of_localhost_are_served_on_one_port(server: ServerProcess) -> None:
    for host in ("127.0.0.1", "[::1]"):
        assert requests.get(f"http://{host}:{server.port}/health/ready", timeout=60).status_code == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl (Debian: apt-get install curl)")
def test_the_command_to_paste_draws_an_image(server: ServerProcess, tmp_path: Path) -> None:
    line = re.findall(r"^  (curl .*\|\n.*)$", server.output, re.MULTILINE)[0]
    subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True, timeout=60)
    with Image.open(tmp_path / "drawing.jpeg") as image:
        assert image.size == (256, 256)


def test_a_signal_while_loading_stops_cleanly() -> None:
    loading = ServerProcess()
    while not loading.lines:
        time.sleep(0.01)
    assert loading.stop(signal.SIGINT) == EXIT_OK
    assert "Traceback" not in "".join(loading.log)


def test_a_busy_port_is_an_error_before_anything_is_loaded(server: ServerProcess) -> None:
    started = time.perf_counter()
    refused = run_app("--port", str(server.port))
    assert time.perf_counter() - started < 20
    assert_refused(refused, EXIT_BAD_SETTING, f"can't listen on 127.0.0.1 port {server.port}")


@needs_ipv6
def test_a_port_that_another_program_uses_on_ipv6_only_is_busy() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        assert_refused(
            run_app("--port", str(port)), EXIT_BAD_SETTING, f"can't listen on ::1 port {port} (Address already in use)"
        )


def test_a_port_whose_server_is_still_loading_is_busy_and_a_signal_stops_it_cleanly() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    loading = ServerProcess("--port", str(port), "--threads", "0")  # all available ones, the default
    while not loading.lines:
        time.sleep(0.01)
    assert_refused(
        run_app("--port", str(port)), EXIT_BAD_SETTING, f"can't listen on 127.0.0.1 port {port} (Address already in use)"
    )
    with loading:
        assert_stops_cleanly(loading, signal.SIGTERM)


def test_more_images_than_batch_and_queue_hold_are_refused_and_an_interrupt_stops_it_cleanly() -> None:
    with ServerProcess("--max_batch_size", "2", "--max_queue", "1", "--threads", "0") as running:
        answer = requests.post(f"{running.url}/dalle", json={"text": "a red circle", "num_images": 4}, timeout=60)
        assert answer.status_code == 400
        assert "num_images must be a whole number from 1 to 3" in answer.json()["error"]["message"]
        assert eventually(lambda: any("--max_images is 10" in line for line in running.log))
        assert_stops_cleanly(running, signal.SIGINT)


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space as Linux does")
def test_too_few_allowed_threads_are_an_error_before_anything_is_loaded() -> None:
    """Each thread needs address space for its stack, which can be limited for root too."""
    refused = run_app("--max_queue", "3000", run_by=("prlimit", f"--as={4 * 2**30}"))
    assert_refused(refused, EXIT_BAD_SETTING, "with --max_queue 3000 the server needs")


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="limits open files by Linux's prlimit")
def test_too_few_allowed_files_are_an_error_before_anything_is_loaded() -> None:
    assert_refused(
        run_app(run_by=("prlimit", "--nofile=63:63")),
        EXIT_BAD_SETTING,
        "the server needs 64 open files, and the system allows 63:",
    )


class FewFiles(ServerProcess):
    """A running server that may have 72 files open."""

    run_by = ("prlimit", "--nofile=72:72")


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="limits open files by Linux's prlimit")
def test_with_few_allowed_files_as_many_callers_are_served_as_there_is_room_for(tmp_path: Path) -> None:
    with FewFiles("--save_to_disk", "--output_dir", str(tmp_path)) as running, ExitStack() as open_ones:
        room = 72 - START_FILES - SPARE_FILES
        warning = f"the system allows 72 open files, enough for {room} connections; for all 800, raise the limit"
        assert eventually(lambda: any(warning in line for line in running.log))
        callers = [open_ones.enter_context(requests.Session()) for _ in range(room)]
        for caller in callers:  # each keeps its connection
            assert caller.get(f"{running.url}/", timeout=60).status_code == 200
        with pytest.raises(requests.Timeout):
            requests.get(f"{running.url}/", timeout=1)
        with ThreadPoolExecutor(room) as pool:
            answers = list(
                pool.map(lambda caller: caller.post(f"{running.url}/dalle", json=REQUEST, timeout=120).json(), callers)
            )
        assert [len(answer["generatedImgs"]) for answer in answers if "warnings" not in answer] == [1] * room
        callers[0].close()
        assert requests.get(f"{running.url}/", timeout=60).status_code == 200
        assert "Too many open files" not in "".join(running.log)


class Limited(ServerProcess):
    """A running server of a user with at most 1,000 threads, and with root's permissions to read."""

    run_by = (
        *("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"),
        *("--inh-caps=+dac_override,+dac_read_search", "--ambient-caps=+dac_override,+dac_read_search"),
        *("prlimit", "--nproc=1000"),
    )


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can run it as a user without other processes")
def test_the_queue_size_that_the_error_suggests_works() -> None:
    refused = run_app("--max_queue", "3000", run_by=Limited.run_by)
    assert_refused(refused, EXIT_BAD_SETTING, "with --max_queue 3000 the server needs")
    suggested = re.search(r"set it to (\d+) at most, or raise the limit \(ulimit -u", refused.stderr)
    assert suggested is not None
    # With torch nothing is written to the cache of the tests' user.
    with Limited("--max_queue", suggested[1], "--runner", "torch", PYTHONDONTWRITEBYTECODE="1") as running:
        assert requests.post(f"{running.url}/dalle", json={"text": "a red circle"}, timeout=60).status_code == 200
        assert running.stop() == EXIT_OK


def test_an_unwritable_output_folder_is_an_error_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused = run_app("--save_to_disk", "--output_dir", str(tmp_path / "file" / "folder"))
    assert_refused(refused, EXIT_BAD_SETTING, "can't write to")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "http"], "--port must be a whole number"),
        (["--model_version", "maxi"], "--model_version must be one of Tiny, Mini, Mega, Mega_full"),
        (["--sav"], "unrecognized arguments: --sav"),
    ],
)
def test_an_invalid_flag_is_an_error_of_one_line(arguments: list[str], message: str) -> None:
    assert_refused(run_app(*arguments), EXIT_BAD_SETTING, message)


def test_without_the_packages_the_error_says_what_to_run() -> None:
    """`-S` hides installed packages."""
    refused = subprocess.run([sys.executable, "-S", "app.py"], cwd=ROOT, capture_output=True, text=True)
    assert_refused(refused, EXIT_BAD_SETTING, "this Python has no package")


def test_missing_weights_are_an_error_of_one_line_with_status_3(tmp_path: Path) -> None:
    refused = run_app("--model_version", "Mini", "--models_root", str(tmp_path))
    assert refused.returncode == EXIT_BAD_CHECKPOINT
    assert refused.stderr.splitlines()[-1].startswith("app.py: ")
    assert "Traceback" not in refused.stderr


def assert_stops_cleanly(running: ServerProcess, number: signal.Signals) -> None:
    assert running.stop(number) == EXIT_OK
    assert running.lines[-1] == "Stopped.\n"
    assert "Traceback" not in "".join(running.log)


def assert_refused(refused: subprocess.CompletedProcess[str], status: int, message: str) -> None:
    assert refused.returncode == status
    [line] = refused.stderr.splitlines()
    assert line.startswith(f"app.py: {message}")
    assert "Loading" not in refused.stdout

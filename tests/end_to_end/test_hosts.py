"""The app under other WSGI servers, and in processes without a console, a reader or a home."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from dalle_model import DalleModel, ForkedProcess
from tests.end_to_end.asked_names import CAN_RECORD, NameRecorder
from tests.end_to_end.callers import eventually
from tests.end_to_end.server_process import MODELS_ROOT, ROOT, UNOPTIMIZED, app_command, environment

SETTINGS = {"DALLE_MODEL_VERSION": "Tiny", "DALLE_MODELS_ROOT": str(MODELS_ROOT), "DALLE_THREADS": "1", "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def running(*command: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the end of the block, and then kill it and its children."""
    process = subprocess.Popen(
        command, cwd=ROOT, env={**environment(), **SETTINGS, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str, status: int = 200) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == status
    except (requests.ConnectionError, requests.Timeout):  # gunicorn accepts connections while its worker loads the model
        return False


def draws(port: int) -> bool:
    answer = requests.post(f"http://127.0.0.1:{port}/dalle", json={"text": "a red circle"}, timeout=60)
    return answer.status_code == 200 and len(answer.json()["generatedImgs"]) == 1


SERVERS = {
    "waitress-serve": ("-m", "waitress", "--listen", "127.0.0.1:{port}", "--call", "app:create_app"),
    "flask run": ("-m", "flask", "--app", "app", "run", "--port", "{port}"),
    "gunicorn": ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--threads", "4", "--timeout", "120", "app:create_app()"),
}


@pytest.mark.skipif(os.name != "posix", reason="ends a group of processes")
@pytest.mark.parametrize("name", SERVERS)
def test_the_app_draws_under_another_wsgi_server(name: str) -> None:
    port = free_port()
    with running(sys.executable, *(word.format(port=port) for word in SERVERS[name])):
        assert eventually(lambda: answers(f"http://127.0.0.1:{port}/health/ready"))
        assert draws(port)


def test_gunicorn_that_preloads_says_so_and_does_not_hang() -> None:
    port = free_port()
    with running(sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "--bind", f"127.0.0.1:{port}", "app:create_app()"):
        assert eventually(lambda: answers(f"http://127.0.0.1:{port}/"))
        for path in ("/health/live", "/health/ready"):
            answer = requests.get(f"http://127.0.0.1:{port}{path}", timeout=30)
            assert answer.status_code == 503 and "without --preload" in answer.json()["reason"]
        refused = requests.post(f"http://127.0.0.1:{port}/dalle", json={"text": "a red circle"}, timeout=30)
        assert refused.status_code == 503 and "forked after the model was loaded" in refused.json()["error"]["message"]


def draw_in_child(model: DalleModel, results: multiprocessing.SimpleQueue[str]) -> None:
    try:
        model.generate_images("a red circle")
    except ForkedProcess as error:
        results.put(str(error))
    results.put(f"alive: {model.state.is_alive}, closed: {model.close()}")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_a_forked_process_gets_an_error_at_once(tiny_model: DalleModel) -> None:
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=draw_in_child, args=(tiny_model, results))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert "load it in each worker" in results.get()
    assert results.get() == "alive: False, closed: True"
    assert tiny_model.generate_images("a red circle"), "the parent goes on"


@pytest.mark.skipif(os.name != "posix", reason="closes streams as a shell does")
def test_without_a_console_it_serves_in_silence() -> None:
    port = free_port()
    command = subprocess.list2cmdline(app_command("--port", str(port)))
    with running("sh", "-c", f"exec {command} <&- >&- 2>&-"):
        assert eventually(lambda: answers(f"http://127.0.0.1:{port}/health/ready"))
        assert draws(port)


@pytest.mark.skipif(os.name != "posix", reason="a pipe in a shell")
def test_it_serves_at_the_platforms_port_without_a_log_and_goes_on_when_nobody_reads_its_output() -> None:
    port = free_port()
    command = subprocess.list2cmdline(word for word in app_command() if word not in ("--port", "0"))
    with running("sh", "-c", f"{command} 2>&- | head -n 1", PORT=str(port)):
        assert eventually(lambda: answers(f"http://127.0.0.1:{port}/health/ready"))
        assert draws(port)


@pytest.mark.skipif(shutil.which("setpriv") is None or os.geteuid() != 0, reason="changes the user, which takes root")
def test_a_user_without_a_name_or_a_home_is_served(tmp_path: Path) -> None:
    port = free_port()
    as_nobody = (
        "setpriv",
        "--reuid=54321",
        "--regid=0",
        "--clear-groups",
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
    )
    recorder = NameRecorder(tmp_path)
    recording = (f"{name}={value}" for name, value in recorder.environment.items())
    bare = ("env", "-i", f"PATH={os.environ['PATH']}", f"TMPDIR={tmp_path}", f"CC={UNOPTIMIZED}", *recording)
    tmp_path.chmod(0o777)
    with running(*as_nobody, *bare, *app_command("--port", str(port))) as server:
        assert eventually(lambda: answers(f"http://127.0.0.1:{port}/health/ready"))
        assert draws(port)
        assert recorder.names == set()
        assert recorder.is_in(server.pid) is CAN_RECORD

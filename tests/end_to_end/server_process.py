"""The real server, `python app.py`, as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import TypeVar

ROOT = Path(__file__).parents[2]
MODELS_ROOT = ROOT / "tests" / "models"  # an earlier Tiny, which draws in a sixth of the time
START_SECONDS = 240  # enough to download and convert Mini on a busy machine
STOP_SECONDS = 30
# A value of CC for servers with an empty cache whose test is not about what is compiled: a sixth of the time.
UNOPTIMIZED = """sh -c 'exec cc "$@" -O0' cc"""

Running = TypeVar("Running", bound="ServerProcess")
APP: tuple[str, ...] = ("app.py",)
FAULTY = ("-m", "tests.end_to_end.faulty_server")


def app_command(*arguments: str, script: tuple[str, ...] = APP) -> list[str]:
    """Return the command that starts the server, by default with the tests' Tiny on a free port and one thread.

    Tiny's steps are too short to gain from more threads, which other tests need.
    """
    more = os.environ.get("SERVER_FLAGS", "").split()  # such as --replicas 2, for tests/cluster
    model = [] if "--model_version" in arguments else ["--model_version", "tiny", "--models_root", str(MODELS_ROOT)]
    return [sys.executable, *script, *model, "--port", "0", "--threads", "1", *more, *arguments]


def run_app(*arguments: str, run_by: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to fail at its start; `run_by` is a command that executes the server's, such as prlimit."""
    return subprocess.run(
        [*run_by, *app_command(*arguments)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )


def environment() -> dict[str, str]:
    """Return this process's environment without the server's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DALLE_")}


class ServerProcess:
    """A running server, as a context manager."""

    script = APP
    run_by: tuple[str, ...] = ()  # a command that executes the server's, such as prlimit

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [*self.run_by, *app_command(*arguments, script=self.script)],
            cwd=ROOT,
            env={**environment(), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.log: list[str] = []
        self._ready = threading.Event()
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self: Running) -> Running:
        if not self._ready.wait(START_SECONDS) or self.process.poll() is not None:
            self.process.kill()
            raise AssertionError(f"the server did not start: {self.lines} {self.log}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def url(self) -> str:
        """The address that the server printed."""
        return next(line.split()[2] for line in self.lines if line.startswith("Serving at "))

    @property
    def port(self) -> int:
        """The port that the server printed."""
        return int(self.url.rsplit(":", 1)[1])

    @property
    def output(self) -> str:
        """The server's output so far."""
        return "".join(self.lines)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, within: float = STOP_SECONDS) -> int:
        """Send the server a signal to stop; return its exit status."""
        self.process.send_signal(number)
        status = self.process.wait(within)
        for reader in self._readers:
            reader.join(STOP_SECONDS)
        return status

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if "can reach it" in line:  # the last line of the welcome
                self._ready.set()
        self._ready.set()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)


class FaultyServer(ServerProcess):
    """A running server whose runner fails as `fault` commands; see faulty_server.py."""

    script = FAULTY

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self._file = folder / "fault"
        is_cluster = "--replicas" in os.environ.get("SERVER_FLAGS", "")
        one = ("--replicas", "1") if is_cluster else ()  # its batch is what a test fills, and its runner what fails
        super().__init__(*one, *arguments, FAULT_FILE=str(self._file), **variables)

    def fault(self, what: str) -> None:
        """Make a method of the runner fail from now on: `step hold`, `step raise`, ..."""
        draft = self._file.with_suffix(".draft")
        draft.write_text(what)
        draft.replace(self._file)

    def heal(self) -> None:
        """Remove the fault."""
        self._file.unlink(missing_ok=True)

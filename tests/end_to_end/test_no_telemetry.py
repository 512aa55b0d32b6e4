"""Nothing is reported to anyone: no process looks up a name.

test_hosts.py records a server with the native decoder, which starts a compiler, and test_mini.py one that downloads its weights.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.asked_names import CAN_RECORD, NameRecorder
from tests.end_to_end.server_process import ROOT

pytestmark = pytest.mark.skipif(not CAN_RECORD, reason="needs Linux and a C compiler (Debian: apt-get install gcc libc6-dev)")

ASKING = """
import contextlib, os, socket
if os.fork() == 0:
    for ask in (
        lambda: socket.getaddrinfo("one.example", 443),
        lambda: socket.gethostbyname_ex("two.example"),
        lambda: socket.create_connection(("192.0.2.3", 9), timeout=0.01),
        lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"", ("192.0.2.4", 9)),
        lambda: socket.create_connection(("127.0.0.1", 9)),
    ):
        with contextlib.suppress(OSError):
            ask()
else:
    os.wait()
"""

DRAWING = """
import sys
from pathlib import Path
from dalle_model import DalleModel
for runner in sys.argv[1:]:
    model = DalleModel("tiny", models_root=Path("tests/models"), runner=runner, threads=1)
    model.generate_images("a red circle")
    model.close()
"""


def run(recorder: NameRecorder, home: Path, *command: str) -> None:
    """Run Python with an empty home and hardly any variables."""
    home.mkdir()
    variables = {"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1", **recorder.environment}
    subprocess.run([sys.executable, *command], cwd=ROOT, env=variables, check=True)


def test_the_recorder_notices_what_a_child_asks_for(tmp_path: Path) -> None:
    recorder = NameRecorder(tmp_path)
    run(recorder, tmp_path / "home", "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ASKING!r}])")
    assert recorder.names == {"one.example", "two.example", "192.0.2.3", "192.0.2.4"}


def test_the_runners_ask_for_no_name_and_write_to_their_cache_only(tmp_path: Path) -> None:
    """OpenVINO would ask for www.google-analytics.com and write to ~/intel."""
    runners = ["torch", "openvino"] if platform.machine() == "x86_64" else ["torch"]
    recorder, home = NameRecorder(tmp_path), tmp_path / "home"
    run(recorder, home, "-c", DRAWING, *runners)
    assert recorder.names == set()
    assert [path.relative_to(home).as_posix() for path in home.glob("*/*")] == [".cache/dalle-server"] * ("openvino" in runners)

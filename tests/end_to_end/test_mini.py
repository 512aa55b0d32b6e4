"""The real server with Mini, whose weights come from a hub on loopback in the published files' format."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from PIL import Image

from tests.end_to_end.asked_names import CAN_RECORD, NameRecorder
from tests.end_to_end.server_process import ROOT, ServerProcess, environment
from tests.loopback_hub import closed_port, serve_random_weights


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["small", pytest.param("mini", marks=pytest.mark.soak)])
def test_mini_is_downloaded_and_draws(sizes: str, tmp_path: Path) -> None:
    recorder = NameRecorder(tmp_path)
    with (
        serve_random_weights(sizes) as hub,
        ServerProcess("--model_version", "Mini", "--threads", "0", **hub.environment(tmp_path), **recorder.environment) as server,
    ):
        answer = requests.post(f"{server.url}/dalle", json={"text": "a cat", "seed": 1}, timeout=200).json()
        assert answer["model"] == "Mini"
        with Image.open(io.BytesIO(base64.b64decode(answer["generatedImgs"][0]))) as image:
            assert image.size == (256, 256)
        assert hub.contents("decoder_mini.pt")
        assert recorder.names == ({"localhost"} if CAN_RECORD else set()), "the hub's large files are at http://localhost"


def test_without_a_hub_the_error_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    nowhere = {"HF_ENDPOINT": f"http://127.0.0.1:{closed_port()}", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "app.py", "--port", "0", "--log_level", "warning"]
    run = subprocess.run(command, cwd=ROOT, env=environment() | nowhere, capture_output=True, text=True, timeout=60)
    assert run.returncode == 3
    (line,) = run.stderr.splitlines()
    assert "--model_version Tiny" in line

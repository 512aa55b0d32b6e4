"""Hold the deployment files to the program, and lint them with what is installed: nothing here builds or runs a container."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.config.settings import FLAGS
from tests.end_to_end.server_process import environment

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
UNIT = (DEPLOY / "dalle-server.service").read_text(encoding="utf-8")


def tool(name: str, package: str = "") -> str:
    """Find a program in the virtual environment or the system; skip where it is missing, naming its Debian package."""
    found = shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))))
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {package or name})")
    return found


def copied_into_the_image() -> list[str]:
    lines = re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE)
    return [name for line in lines for name in line.split()]


def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return parsed


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml", "dalle-server.service"])
def test_every_variable_is_one_that_is_read(file: str) -> None:
    written = re.sub(r"^\s*#.*", "", (DEPLOY / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
    used = set(re.findall(r"\bDALLE_[A-Z_]+\b", written))
    assert used
    assert used <= {flag.variable for flag in FLAGS}


def test_what_is_copied_into_the_image_is_all_that_drawing_needs(tmp_path: Path) -> None:
    for name in copied_into_the_image():
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    script = "import app; from dalle_model import DalleModel; print(DalleModel('tiny').generate_images('a red circle')[0].size)"
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert run.stdout == "(256, 256)\n", run.stderr


def test_the_context_sent_to_the_builder_holds_it_and_no_more() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied_into_the_image())


def test_the_image_runs_as_nobody_with_a_health_check() -> None:
    assert re.search(r"^USER [1-9][0-9]*:[1-9][0-9]*$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", DOCKERFILE, re.MULTILINE)
    assert re.search(r'^VOLUME \["/weights", "/generations"\]$', DOCKERFILE, re.MULTILINE)
    assert DOCKERFILE.index("USER ") < DOCKERFILE.index("ENTRYPOINT ")


def test_compose_takes_rights_away_and_leaves_time_to_finish() -> None:
    dalle = compose()["services"]["dalle"]
    assert dalle["read_only"] is True
    assert dalle["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in dalle["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in dalle["ports"])
    assert "DALLE_API_KEY_FILE" in dalle["environment"]
    assert {volume.split(":")[0] for volume in dalle["volumes"]} == set(compose()["volumes"])
    assert (DEPLOY / dalle["build"]["dockerfile"]).name in {path.name for path in DEPLOY.iterdir()}


def test_hadolint_finds_nothing() -> None:
    run = subprocess.run([tool("hadolint"), str(DEPLOY / "Dockerfile")], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "")


def test_systemd_finds_nothing(tmp_path: Path) -> None:
    here = UNIT.replace("/opt/dalle/.venv/bin/python", sys.executable).replace(
        "WorkingDirectory=/opt/dalle", f"WorkingDirectory={ROOT}"
    )
    assert here.count(sys.executable) == 1
    (tmp_path / "dalle-server.service").write_text(here, encoding="utf-8")
    run = subprocess.run(
        [tool("systemd-analyze", "systemd"), "verify", "--man=no", str(tmp_path / "dalle-server.service")],
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_nginx_finds_nothing(tmp_path: Path) -> None:
    nginx, openssl = tool("nginx"), tool("openssl")
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=dalle.example"]
    subprocess.run([*make, "-keyout", tmp_path / "dalle.key", "-out", tmp_path / "dalle.pem"], check=True, capture_output=True)
    ours = (DEPLOY / "nginx.conf").read_text(encoding="utf-8").replace("/etc/nginx/", f"{tmp_path}/")
    # It binds what it is to listen on: files instead of ports, which may be taken, or closed to this user.
    ours = re.sub(r"listen (\S+?)(?=[ ;])", lambda listen: f"listen unix:{tmp_path}/{listen[1].replace(':', '-')}", ours)
    (tmp_path / "dalle.conf").write_text(ours, encoding="utf-8")
    # Folders of its own, as a user who is not root can't write to the system's.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    own = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    whole = f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {own} include {tmp_path}/dalle.conf; }}"
    (tmp_path / "nginx.conf").write_text(whole, encoding="utf-8")
    run = subprocess.run([nginx, "-t", "-q", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")

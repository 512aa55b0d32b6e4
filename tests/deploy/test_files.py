"""The deployment files fit the program and pass the linters that are installed. No container is built or run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from server.config.settings import FLAGS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "dalle-server.service").read_text(encoding="utf-8")


def tool(name: str, package: str = "") -> str:
    """Return the path of a program of the virtual environment or the system. Skip if it is missing, with its Debian package."""
    found = shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))))
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {package or name})")
    return found


def variables_in(file: str) -> set[str]:
    """Return the server's variables that a file sets or reads, outside comments."""
    text = (DEPLOY / file).read_text(encoding="utf-8")
    return set(re.findall(r"\bDALLE_[A-Z_]+\b", re.sub(r"^\s*#.*", "", text, flags=re.MULTILINE)))


@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("Dockerfile", 4),
        ("compose.yaml", 6),
        ("compose-cluster.yaml", 5),
        ("raycluster.yaml", 5),
        ("kubernetes.yaml", 3),
        ("dalle-server.service", 9),
    ],
)
def test_every_variable_is_one_that_is_read(file: str, count: int) -> None:
    assert len(variables_in(file)) >= count
    assert variables_in(file) <= {flag.variable for flag in FLAGS}


def test_nodes_have_the_token_and_only_the_front_is_open() -> None:
    services = yaml.safe_load((DEPLOY / "compose-cluster.yaml").read_text(encoding="utf-8"))["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["front"]
    for service in services.values():
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
        assert service["environment"]["RAY_AUTH_MODE"] == "token" and "ray_token" in service["secrets"]
    parts = {part["kind"]: part["spec"] for part in yaml.safe_load_all((DEPLOY / "raycluster.yaml").read_text(encoding="utf-8"))}
    groups = [parts["RayCluster"]["headGroupSpec"], *parts["RayCluster"]["workerGroupSpecs"], parts["Deployment"]]
    for container in (each for group in groups for each in group["template"]["spec"]["containers"]):
        names = {variable["name"] for variable in container["env"]}
        assert {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"} <= names
    pinned = (ROOT / "requirements-cluster.txt").read_text(encoding="utf-8")
    assert f"ray[serve]=={parts['RayCluster']['rayVersion']} " in pinned


@pytest.mark.parametrize("file", ["compose.yaml", "compose-cluster.yaml"])
def test_compose_files_fit_their_specification(file: str) -> None:
    text = (DEPLOY / file).read_text(encoding="utf-8")

    def check(text: str) -> None:
        PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(text))).validate()  # without aliases, which it does not resolve

    check(text)
    for broken in (text.replace("restart:", "restarts:"), text.replace("unless-stopped", "sometimes")):
        with pytest.raises(ValueError, match="restart"):
            check(broken)


def test_compose_is_yaml_that_builds_our_dockerfile() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["dalle"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


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
    # nginx binds its ports even for a test. Files stand in for ports that are taken or need root.
    ours = re.sub(r"listen (\S+?)(?=[ ;])", lambda listen: f"listen unix:{tmp_path}/{listen[1].replace(':', '-')}", ours)
    (tmp_path / "dalle.conf").write_text(ours, encoding="utf-8")
    # Only root can write to the system's temporary folders.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    own = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    whole = f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {own} include {tmp_path}/dalle.conf; }}"
    (tmp_path / "nginx.conf").write_text(whole, encoding="utf-8")
    run = subprocess.run([nginx, "-t", "-q", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")

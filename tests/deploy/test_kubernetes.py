"""deploy/kubernetes.yaml and raycluster.yaml are valid for Kubernetes and fit the program and its image. No cluster runs here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from flask.testing import FlaskClient

from server.config.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
DOCUMENTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
CLAIM, DEPLOYMENT, SERVICE = DOCUMENTS
POD: dict[str, Any] = DEPLOYMENT["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]
RAY, *BESIDE_RAY = yaml.safe_load_all((DEPLOY / "raycluster.yaml").read_text(encoding="utf-8"))
# KubeRay's own schema is in no package; that of its pods is Kubernetes'.
RAY_PODS = [
    {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pods"}, "template": group["template"]}
    for group in (RAY["spec"]["headGroupSpec"], *RAY["spec"]["workerGroupSpecs"])
]
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@pytest.mark.parametrize("document", [*DOCUMENTS, *BESIDE_RAY, *RAY_PODS], ids=lambda document: document["kind"])
def test_it_is_valid_for_kubernetes(document: dict[str, Any]) -> None:
    for version in ("1.25", "1.37"):
        kubernetes_validate.validate(document, version, strict=True)


def test_its_names_fit_each_other() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert labels.items() >= DEPLOYMENT["spec"]["selector"]["matchLabels"].items()
    assert labels.items() >= SERVICE["spec"]["selector"].items()
    [port] = CONTAINER["ports"]
    probed = {CONTAINER[probe]["httpGet"]["port"] for probe in PROBES}
    assert probed == {each["targetPort"] for each in SERVICE["spec"]["ports"]} == {port["name"]}
    assert f"DALLE_PORT={port['containerPort']}" in DOCKERFILE
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == set(volumes)
    assert volumes["weights"]["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]


def test_its_probes_are_answered(client: FlaskClient) -> None:
    assert {probe: client.get(CONTAINER[probe]["httpGet"]["path"]).get_json()["status"] for probe in PROBES} == {
        "startupProbe": "ready",
        "readinessProbe": "ready",
        "livenessProbe": "alive",
    }


def test_a_stopping_pod_has_time_to_finish_its_images() -> None:
    command, seconds = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    assert POD["terminationGracePeriodSeconds"] >= int(seconds) + Settings().drain_timeout + 5


def test_all_that_the_image_writes_is_mounted() -> None:
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"]
    mounted = [mount["mountPath"] for mount in CONTAINER["volumeMounts"] if not mount.get("readOnly")]
    written = re.findall(r"\b(?:HOME|HF_HOME|DALLE_OUTPUT_DIR|DALLE_CACHE_DIR)=(\S+)", DOCKERFILE)
    assert len(written) == 4
    assert [path for path in written if not any(Path(path).is_relative_to(folder) for folder in mounted)] == []
    assert f"USER {POD['securityContext']['runAsUser']}:{POD['securityContext']['runAsGroup']}\n" in DOCKERFILE


def test_no_service_sets_the_servers_variables() -> None:
    assert f"{SERVICE['metadata']['name'].upper()}_PORT" == "DALLE_PORT", "which Kubernetes sets to tcp://..."
    assert POD["enableServiceLinks"] is False

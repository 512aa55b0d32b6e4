"""What real clients send, each with the answer that it can read. tests/clients drives the clients themselves."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from server.images.metadata import read_metadata
from tests.end_to_end.callers import eventually
from tests.end_to_end.server_process import ServerProcess

IMAGES = "/v1/images/generations"


def post(server: ServerProcess, path: str, **options: Any) -> requests.Response:
    return requests.post(f"{server.url}{path}", timeout=60, **options)


def test_dall_e_models_answer_urls_and_all_others_base64(server: ServerProcess) -> None:
    for model, fields, key in (
        ("dall-e-3", {}, "url"),
        ("dall-e-2", {}, "url"),
        ("dall-e-3", {"response_format": "b64_json"}, "b64_json"),
        ("gpt-image-1", {}, "b64_json"),
        ("Tiny", {}, "b64_json"),
        (None, {}, "b64_json"),
        (None, {"response_format": "url"}, "url"),
    ):
        [item] = post(server, IMAGES, json={"model": model, "prompt": "a red circle", **fields}).json()["data"]
        assert set(item) == {key, "seed"}, (model, fields)
    stream = post(server, IMAGES, json={"model": "dall-e-3", "prompt": "a red circle", "stream": True})
    assert '"b64_json"' in stream.text and '"url"' not in stream.text


def test_tls_on_the_http_port_is_closed_at_once_and_logged(server: ServerProcess) -> None:
    context = ssl.create_default_context()
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as plain, pytest.raises(OSError):
        context.wrap_socket(plain, server_hostname="localhost")
    assert time.monotonic() - started < 30
    assert eventually(lambda: any("speaks TLS on a plain HTTP port: use http://" in line for line in server.log))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_a_body_in_another_unicode_encoding_is_read(server: ServerProcess, encoding: str) -> None:
    for path, field in (("/dalle", "text"), (IMAGES, "prompt")):
        answer = post(server, path, data=json.dumps({field: "a red circle"}).encode(encoding))
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/images/generations",
        "/openai/v1/images/generations",
        "/openai/deployments/any/images/generations?api-version=2024-02-01",
        "/v1/images/generations/",
        "/images/generations/",
    ],
)
def test_images_are_drawn_at_every_base_url_that_clients_set(server: ServerProcess, path: str) -> None:
    assert post(server, path, json={"prompt": "a red circle"}).json()["data"][0]["b64_json"]
    error = post(server, path, json={"prompt": ""}).json()["error"]
    assert error["param"] == "prompt" and error["type"] == "invalid_request_error"


def test_azures_deployment_counts_as_the_model(server: ServerProcess) -> None:
    answer = post(server, "/openai/deployments/dall-e-3/images/generations", json={"prompt": "a red circle"})
    assert requests.get(answer.json()["data"][0]["url"], timeout=60).content.startswith(b"\x89PNG")


@pytest.mark.parametrize("path", ["/dalle/", "/generate/", "/health/ready/", "/v1/models/", "/v1/models/Tiny/", "/models"])
def test_a_slash_at_the_end_or_no_v1_changes_nothing(server: ServerProcess, path: str) -> None:
    answer = (
        post(server, path, json={"text": "a red circle"})
        if "/dalle" in path or "/generate" in path
        else requests.get(server.url + path)
    )
    assert (answer.status_code, answer.history) == (200, [])


def test_a_seed_of_minus_one_is_random_and_the_drawn_seed_is_answered(server: ServerProcess) -> None:
    classic = [post(server, "/dalle", json={"text": "a red circle", "seed": -1}).json()["seeds"][0] for _ in range(2)]
    [item] = post(server, IMAGES, json={"prompt": "a red circle", "seed": "-1"}).json()["data"]
    assert min(*classic, item["seed"]) >= 0 and classic[0] != classic[1]


@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/images/variations", "/images/edits"])
def test_edits_are_refused_by_a_status_that_nobody_retries(server: ServerProcess, path: str) -> None:
    answer = post(server, path, files={"image": b"\x89PNG"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "not_supported" and IMAGES in answer.json()["error"]["message"]


def test_forms_are_drawn(server: ServerProcess) -> None:
    fields = {"text": "a cat & a döner", "num_images": "2", "grid": "true", "temperature": "0.9", "seed": ""}
    urlencoded, multipart = (
        post(server, "/dalle", data=fields),
        post(server, "/dalle", files={name: (None, value) for name, value in fields.items()}),
    )
    assert [len(answer.json()["seeds"]) for answer in (urlencoded, multipart)] == [2, 2]
    assert len(urlencoded.json()["generatedImgs"]) == 1, "one sheet"
    refused = post(server, "/dalle", data={"text": "a cat", "grid": "perhaps"})
    assert "grid must be true or false" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (gzip.compress(b'{"text": "a red circle"}', mtime=0), "compressed with gzip"),
        ('{"text": "café"}'.encode("cp1252"), "not UTF-8"),
        ("text=caf\xe9".encode("latin-1"), "not UTF-8"),
        (b"'{text: a red circle}'", "single quotes"),
        (b'{"text": "a",}', "not JSON at line 1 column 14"),
        (b"", "empty"),
    ],
    ids=["gzip", "cp1252", "latin-1 form", "quoted by Windows", "comma", "empty"],
)
def test_a_body_that_cannot_be_read_is_refused_in_plain_words(server: ServerProcess, body: bytes, reason: str) -> None:
    answer = post(server, "/dalle", data=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]


def test_whole_numbers_may_be_sent_as_text(server: ServerProcess) -> None:
    assert len(post(server, "/dalle", json={"text": "a red circle", "num_images": "2"}).json()["seeds"]) == 2
    assert len(post(server, IMAGES, json={"prompt": "a red circle", "n": " 2 "}).json()["data"]) == 2
    assert post(server, "/dalle", json={"text": "a red circle", "num_images": "2.5"}).status_code == 400


def test_without_a_host_header_links_have_the_sockets_address(server: ServerProcess) -> None:
    body = b'{"prompt": "a red circle", "response_format": "url"}'
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"POST %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (IMAGES.encode(), len(body), body))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    url = json.loads(answer.partition(b"\r\n\r\n")[2])["data"][0]["url"]
    assert url.startswith(f"{server.url}/images/")


def test_words_of_any_script_are_in_a_saved_folders_name(server: ServerProcess, output_dir: Path) -> None:
    for text, name in (("日本語の丸", "日本語の丸"), ("Ein Äpfel?", "ein-äpfel"), ("दिल " * 30, "दिल-दिल")):
        post(server, "/dalle", json={"text": text})
        [folder] = output_dir.glob(f"*Z_{name}*_????????")
        assert len(folder.name.split("_")[1].encode()) <= 60


def test_a_saved_grid_has_its_images_beside_it(server: ServerProcess, output_dir: Path) -> None:
    post(server, "/dalle", json={"text": "a saved sheet", "num_images": 2, "seed": 7, "grid": True, "img_format": "png"})
    [folder] = output_dir.glob("*_a-saved-sheet_*")
    seeds = {path.name: read_metadata(path.read_bytes()).seeds for path in folder.iterdir()}
    assert seeds == {"0.png": (7,), "1.png": (8,), "grid.png": (7, 8)}


def test_a_page_of_a_public_site_may_call_a_server_on_a_private_network(server: ServerProcess) -> None:
    asked = {
        "Origin": "https://x.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Private-Network": "true",
    }
    answer = requests.options(f"{server.url}/dalle", headers=asked, timeout=60)
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"
    plain = requests.options(f"{server.url}/dalle", headers={name: asked[name] for name in list(asked)[:2]}, timeout=60)
    assert "Access-Control-Allow-Private-Network" not in plain.headers


def test_a1111_draws_and_tells_what_it_drew(server: ServerProcess) -> None:
    body = {
        "prompt": "a red circle",
        "seed": 5,
        "batch_size": 2,
        "width": 128,
        "height": 64,
        "cfg_scale": 3,
        "sampler_name": "Euler a",
    }
    answer = post(server, "/sdapi/v1/txt2img", json=body).json()
    images = [Image.open(BytesIO(base64.b64decode(data))) for data in answer["images"]]
    assert [(image.size, image.format) for image in images] == [((128, 64), "PNG")] * 2
    info = json.loads(answer["info"])
    assert (info["all_seeds"], info["cfg_scale"], info["all_prompts"]) == ([5, 6], 3.0, ["a red circle"] * 2)
    assert "Seed: 6" in info["infotexts"][1]
    assert answer["parameters"]["batch_size"] == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"prompt": ""}, "prompt must be"),
        ({"prompt": "a", "batch_size": 4, "n_iter": 4}, "batch_size"),
        ({"prompt": "a", "width": 8}, "width"),
    ],
)
def test_a1111_refuses_in_its_own_form(server: ServerProcess, body: dict[str, Any], said: str) -> None:
    answer = post(server, "/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "detail", "body", "errors"} and said in answer.json()["detail"]
    assert requests.get(f"{server.url}/sdapi/v1/txt2img", timeout=60).status_code == 405
    missing = post(server, "/sdapi/v1/img2img", json={})
    assert missing.status_code == 404 and "txt2img" in missing.json()["detail"]


def test_a1111_shows_progress_and_stops_when_it_is_interrupted(server: ServerProcess) -> None:
    def progress() -> dict[str, Any]:
        found: dict[str, Any] = requests.get(f"{server.url}/sdapi/v1/progress", timeout=60).json()
        return found

    assert progress()["progress"] == 0
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(post, server, "/sdapi/v1/txt2img", json={"prompt": "a red circle", "batch_size": 10})
        assert eventually(lambda: 0 < progress()["progress"] < 1)
        assert eventually(lambda: progress()["current_image"] is not None)
        assert post(server, "/sdapi/v1/interrupt").json() == {}
        answer = drawing.result(60).json()
    assert 1 <= len(answer["images"]) == len(json.loads(answer["info"])["all_seeds"]) <= 10
    assert progress()["progress"] == 0

"""The real server with the requests of existing clients, byte for byte where that matters."""

from __future__ import annotations

import base64
import json
import socket
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from PIL import Image

from tests.end_to_end.server_process import ServerProcess


def exchange(server: ServerProcess, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send raw bytes, read until the server closes, and return the response's status, lower-case headers and body."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(raw)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in rest)
    return int(first.split(" ")[1]), {name.lower(): value for name, value in headers.items()}, body


def http(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Return a request with no other headers than those given and those that HTTP requires."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def error_in(body: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(body)["error"]
    return error


def test_the_web_interface(server: ServerProcess) -> None:
    """It sends JSON without a content type, and custom headers; it reads generatedImgs and generatedImgsFormat."""
    request = json.dumps({"text": "a red circle", "num_images": 2}).encode()
    status, headers, body = exchange(
        server, http("POST", "/dalle", request, Bypass_Tunnel_Reminder="go", mode="no-cors", Origin="http://localhost:3000")
    )
    assert status == 200
    assert headers["access-control-allow-origin"] == "*"
    answer = json.loads(body)
    assert answer["generatedImgsFormat"] == "jpeg"
    for image in answer["generatedImgs"]:
        assert Image.open(BytesIO(base64.b64decode(image, validate=True))).size == (256, 256)


def test_the_web_interfaces_preflight(server: ServerProcess) -> None:
    status, headers, _ = exchange(
        server,
        http(
            "OPTIONS",
            "/dalle",
            Origin="http://localhost:3000",
            Access_Control_Request_Method="POST",
            Access_Control_Request_Headers="bypass-tunnel-reminder,mode",
        ),
    )
    assert status == 204
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-headers"] == "bypass-tunnel-reminder,mode"


def test_the_web_interfaces_check_for_the_server(server: ServerProcess) -> None:
    status, headers, body = exchange(server, http("GET", "/", Bypass_Tunnel_Reminder="go"))
    assert (status, body) == (200, b"hello world")
    assert headers["access-control-allow-origin"] == "*"


def test_a_python_bot(server: ServerProcess) -> None:
    answer = requests.post(f"{server.url}/dalle", json={"text": "a red circle", "num_images": 1}, timeout=60)
    assert len(answer.json()["generatedImgs"]) == 1


def test_curl_sends_a_form(server: ServerProcess) -> None:
    form = http("POST", "/dalle", b'{"text":"a red circle","num_images":4}', Content_Type="application/x-www-form-urlencoded")
    status, _, body = exchange(server, form)
    assert status == 200
    assert len(json.loads(body)["generatedImages"]) == 4


def test_the_route_by_its_later_name(server: ServerProcess) -> None:
    answer = requests.post(f"{server.url}/generate", data='{"text": "a red circle", "num_images": 1}', timeout=60)
    assert len(answer.json()["generatedImgs"]) == 1


def test_a_large_body_gets_a_response_with_and_without_a_content_length(server: ServerProcess) -> None:
    def chunks() -> Any:
        for _ in range(40):
            yield b" " * 65536

    for data in (b" " * (3 * 2**20), chunks()):
        answer = requests.post(f"{server.url}/dalle", data=data, timeout=60)
        assert answer.status_code == 413
        assert "1048576 bytes" in answer.json()["error"]["message"]


def test_a_chunked_body_is_read(server: ServerProcess) -> None:
    answer = requests.post(f"{server.url}/dalle", data=iter([b'{"text": "a red', b' circle"}']), timeout=60)
    assert len(answer.json()["generatedImgs"]) == 1


def test_invalid_http_is_refused_in_json(server: ServerProcess) -> None:
    status, headers, body = exchange(server, b"BREW /dalle HTCPCP/1.0\r\nno colon\r\n\r\n")
    assert status == 400
    assert headers["content-type"] == "application/json"
    assert headers["access-control-allow-origin"] == "*"
    assert error_in(body)["message"]


def test_responses_to_invalid_http_are_readable_by_listed_origins_only(custom_server: ServerProcess) -> None:
    for origin, allowed in (("https://play.example", "https://play.example"), ("https://evil.example", None)):
        status, headers, _ = exchange(custom_server, b"GET / HTTP/1.1\r\nOrigin: %s\r\nno colon\r\n\r\n" % origin.encode())
        assert (status, headers.get("access-control-allow-origin")) == (400, allowed)
        assert headers["vary"] == "Origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-request-id"]


def test_a_far_too_large_body_is_refused_unread(server: ServerProcess) -> None:
    status, _, body = exchange(server, b"POST /dalle HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n")
    assert status == 413
    assert error_in(body)["field"] is None


def test_drawn_images_are_saved(server: ServerProcess, output_dir: Path) -> None:
    requests.post(f"{server.url}/dalle", json={"text": "../a Saved one", "num_images": 2, "img_format": "png"}, timeout=60)
    [folder] = output_dir.glob("*_a-saved-one_*")
    assert sorted(path.name for path in folder.iterdir()) == ["0.png", "1.png"]

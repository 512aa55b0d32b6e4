"""Images as URLs from the real server, as Open WebUI requests them and behind a proxy."""

from __future__ import annotations

import pytest
import requests

from tests.end_to_end.callers import eventually, metric
from tests.end_to_end.server_process import ServerProcess


def draw(server: ServerProcess, headers: dict[str, str] | None = None, **fields: object) -> str:
    answer = requests.post(
        f"{server.url}/v1/images/generations",
        json={"prompt": "a red circle", "response_format": "url", **fields},
        headers=headers,
        timeout=120,
    )
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["data"][0]["url"]
    return url


@pytest.mark.parametrize("model", ["dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1.5"])
def test_open_webuis_call(server: ServerProcess, model: str) -> None:
    """Open WebUI hard-codes these names, requests 1024x1024, and sends its Authorization header when it fetches the image."""
    headers = {"Authorization": "Bearer sk-open-webui"}
    url = draw(server, headers, model=model, n=1, size="1024x1024")
    assert url.startswith(f"{server.url}/images/")
    image = requests.get(url, headers=headers, timeout=60)
    assert (image.status_code, image.headers["Content-Type"]) == (200, "image/png")
    assert image.content.startswith(b"\x89PNG")
    assert "max-age=" in image.headers["Cache-Control"]


def test_a_link_expires(custom_server: ServerProcess) -> None:
    url = draw(custom_server)
    assert eventually(lambda: requests.get(url, timeout=60).status_code == 404)
    assert eventually(lambda: metric(custom_server, "dalle_linked_images_bytes") == 0)


FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "images.example.org"}


def test_a_proxys_headers_are_trusted_only_if_set(server: ServerProcess, custom_server: ServerProcess) -> None:
    assert draw(server, FORWARDED).startswith(server.url)
    assert draw(custom_server, FORWARDED).startswith("https://images.example.org/images/")

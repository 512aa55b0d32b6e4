from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from flask.testing import FlaskClient

from consts import ImageFormat
from dalle_model import DalleModel
from server import create_app
from server.image_links import ImageKeeper
from server.settings import Settings


@dataclass
class Clock:
    """Be a time that stands until it is set."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_image_is_found_until_its_time_is_up(clock: Clock) -> None:
    keeper = ImageKeeper(60, 1000, clock)
    name = keeper.keep(b"image", ImageFormat.WEBP)
    clock.now += 59
    found = keeper.find(name)
    assert found is not None
    assert (found[0].data, found[0].media_type, found[1]) == (b"image", "image/webp", 1)
    clock.now += 1
    assert keeper.find(name) is None
    assert keeper.kept_bytes == 5
    keeper.sweep()
    assert keeper.kept_bytes == 0


def test_the_memory_is_free_again_without_another_call() -> None:
    keeper = ImageKeeper(0.01, 1000)
    keeper.keep(b"image", ImageFormat.PNG)
    timer = keeper._timer
    assert timer is not None
    timer.join(60)
    assert keeper.kept_bytes == 0


def test_past_the_bound_the_oldest_go_first(clock: Clock) -> None:
    keeper = ImageKeeper(60, 10, clock)
    names = [keeper.keep(b"four", ImageFormat.PNG) for _ in range(3)]
    assert [keeper.find(name) is not None for name in names] == [False, True, True]
    assert keeper.kept_bytes == 8
    keeper.keep(b"larger than all that", ImageFormat.PNG)
    assert keeper.kept_bytes == 0


def test_names_are_long_random_and_say_the_format() -> None:
    keeper = ImageKeeper(60, 2**20)
    names = {keeper.keep(b"", ImageFormat.JPEG) for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) == len("x" * 32 + ".jpeg") and name.endswith(".jpeg") for name in names)


def link(client: FlaskClient, **headers: str) -> str:
    answer = client.post(
        "/v1/images/generations", json={"prompt": "a red circle", "response_format": "url", "seed": 1}, headers=headers
    )
    assert answer.status_code == 200, answer.text
    url: str = answer.get_json()["data"][0]["url"]
    return url


def test_a_link_serves_the_image_that_base64_would_have_held(client: FlaskClient) -> None:
    url = link(client)
    assert url.startswith("http://localhost/images/")
    served = client.get(url)
    assert served.status_code == 200
    assert served.headers["Content-Type"] == "image/png"
    assert served.data.startswith(b"\x89PNG")
    cached = served.headers["Cache-Control"]
    assert cached.startswith("private, max-age=359") and cached.endswith(", immutable")
    assert client.get(url, headers={"If-None-Match": served.headers["ETag"]}).status_code == 304


def test_an_authorization_header_is_no_hindrance(client: FlaskClient) -> None:
    """Open WebUI sends its own."""
    assert client.get(link(client), headers={"Authorization": "Bearer open-webui"}).status_code == 200


def test_a_link_needs_no_key_where_drawing_does(tiny_model: DalleModel, settings: Settings) -> None:
    client = create_app(tiny_model, replace(settings, api_key=("secret-key",))).test_client()
    url = link(client, Authorization="Bearer secret-key")
    assert client.get(url).status_code == 200


@pytest.mark.parametrize("name", ["x", "..%2F..%2Fetc%2Fpasswd", "x" * 32 + ".png"])
def test_an_unknown_name_is_404(client: FlaskClient, name: str) -> None:
    answer = client.get(f"/images/{name}")
    assert answer.status_code == 404
    assert answer.get_json()["error"]["message"]


FORWARDED = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "images.example.org",
    "X-Forwarded-Prefix": "/dalle-server",
}


def test_a_proxys_headers_are_believed_only_where_that_is_set(tiny_model: DalleModel, settings: Settings) -> None:
    trusting = create_app(tiny_model, replace(settings, trust_proxy=True)).test_client()
    assert link(trusting, **FORWARDED).startswith("https://images.example.org/dalle-server/images/")
    doubting = create_app(tiny_model, settings).test_client()
    assert link(doubting, **FORWARDED).startswith("http://localhost/images/")


@pytest.mark.parametrize("trust_proxy", [False, True])
def test_a_public_url_counts_before_all_else(tiny_model: DalleModel, settings: Settings, trust_proxy: bool) -> None:
    public = replace(settings, public_url="https://pictures.example.org/a", trust_proxy=trust_proxy)
    url = link(create_app(tiny_model, public).test_client(), **FORWARDED)
    assert url.startswith("https://pictures.example.org/a/images/")

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from consts import ImageFormat
from server.api.openai.links import image_link_routes
from server.images.link_store import LinkedImage, LinkStore
from tests.conftest import MakeClient


@dataclass
class Clock:
    """A clock that the test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_image_is_found_until_its_link_expires(clock: Clock) -> None:
    store = LinkStore(60, 1000, clock)
    [name] = store.keep([b"image"], ImageFormat.WEBP)
    clock.now += 59
    assert store.find(name) == LinkedImage(b"image", "image/webp", 1)
    clock.now += 1
    assert store.find(name) is None
    assert store.kept_bytes == 0


def test_any_later_request_frees_the_memory_of_expired_images(clock: Clock) -> None:
    freed = []

    class Data(bytes):
        def __del__(self) -> None:
            freed.append(self[:])

    store = LinkStore(60, 1000, clock)
    app = Flask(__name__)
    app.register_blueprint(image_link_routes(store, 60))
    store.keep([Data(b"image")], ImageFormat.PNG)
    app.test_client().get("/elsewhere")
    assert freed == []
    clock.now += 60
    app.test_client().get("/elsewhere")
    assert freed == [b"image"]


def test_above_the_limit_the_least_recently_fetched_answer_is_removed(clock: Clock) -> None:
    store = LinkStore(60, 10, clock)
    [first], [second] = (store.keep([b"four"], ImageFormat.PNG) for _ in range(2))
    assert store.find(first) is not None
    [third] = store.keep([b"four"], ImageFormat.PNG)
    assert [store.find(name) is not None for name in (first, second, third)] == [True, False, True]
    assert store.kept_bytes == 8


def test_an_answer_above_the_limit_is_kept_alone(clock: Clock) -> None:
    store = LinkStore(60, 10, clock)
    before = store.keep([b"four"], ImageFormat.PNG)
    large = store.keep([b"four"] * 5, ImageFormat.PNG)
    assert [store.find(name) is not None for name in before + large] == [False] + [True] * 5
    assert store.kept_bytes == 20
    after = store.keep([b"four"], ImageFormat.PNG)
    assert [store.find(name) is not None for name in large + after] == [False] * 5 + [True]
    assert store.kept_bytes == 4


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Switch threads as often as Python can, so that a missing lock shows."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hasty_threads")
def test_many_threads_keep_and_find_at_once() -> None:
    store = LinkStore(60, 500)  # some 25 answers, so that they displace each other

    def keep_and_find(number: int) -> None:
        images = [f"{number}-{index}".encode() for index in range(3)]
        found = [store.find(name) for name in store.keep(images, ImageFormat.PNG)]
        assert all(image is None or image.data == data for image, data in zip(found, images, strict=True))
        assert store.kept_bytes <= 500

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep_and_find, range(15_000)))
    assert store.kept_bytes > 450


def test_names_are_long_and_random_and_end_with_the_format() -> None:
    store = LinkStore(60, 2**20)
    names = {name for _ in range(50) for name in store.keep([b""] * 2, ImageFormat.JPEG)}
    assert len(names) == 100
    assert all(len(name) == len("x" * 32 + ".jpeg") and name.endswith(".jpeg") for name in names)


def test_a_link_does_not_reveal_the_other_images_of_its_answer() -> None:
    store = LinkStore(60, 2**20)
    mine, other = store.keep([b"mine", b"other"], ImageFormat.PNG)
    assert mine[16:] != other[16:]
    assert store.find(mine[:16] + "x" * 16 + ".png") is None


def test_every_link_of_an_answer_above_the_limit_works(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.MAX_LINKED_BYTES", 2000)
    client = make_client()
    answer = client.post("/v1/images/generations", json={"prompt": "a red circle", "n": 4, "response_format": "url"})
    served = [client.get(item["url"]) for item in answer.get_json()["data"]]
    assert [image.status_code for image in served] == [200] * 4
    assert sum(len(image.data) for image in served) > 2000


def draw_link(client: FlaskClient, **headers: str) -> str:
    body = {"prompt": "a red circle", "response_format": "url", "seed": 1}
    answer = client.post("/v1/images/generations", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    url: str = answer.get_json()["data"][0]["url"]
    return url


def test_a_link_serves_the_image_for_the_client_to_cache(client: FlaskClient) -> None:
    url = draw_link(client)
    assert url.startswith("http://localhost/images/")
    served = client.get(url)
    assert served.status_code == 200
    assert served.headers["Content-Type"] == "image/png"
    assert served.data.startswith(b"\x89PNG")
    cached = served.headers["Cache-Control"]
    assert cached.startswith("private, max-age=359") and cached.endswith(", immutable")
    assert client.get(url, headers={"If-None-Match": served.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize("name", ["x", "..%2F..%2Fetc%2Fpasswd", "x" * 32 + ".png"])
def test_an_unknown_name_is_404(client: FlaskClient, name: str) -> None:
    answer = client.get(f"/images/{name}")
    assert answer.status_code == 404
    assert answer.get_json()["error"]["message"]


FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "images.example.org", "X-Forwarded-Prefix": "/dalle-server"}


@pytest.mark.parametrize(
    ("changes", "base"),
    [
        ({}, "http://localhost"),
        ({"trust_proxy": True}, "https://images.example.org/dalle-server"),
        ({"public_url": "https://pictures.example.org/a"}, "https://pictures.example.org/a"),
        ({"public_url": "https://pictures.example.org/a", "trust_proxy": True}, "https://pictures.example.org/a"),
    ],
)
def test_links_begin_with_the_servers_public_address(make_client: MakeClient, changes: dict[str, Any], base: str) -> None:
    assert draw_link(make_client(**changes), **FORWARDED).startswith(f"{base}/images/")

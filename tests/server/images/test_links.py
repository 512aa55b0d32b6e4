from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from consts import ImageFormat
from dalle_model import DalleModel
from server import create_app
from server.api.openai.links import image_link_routes
from server.config.settings import Settings
from server.images.link_store import LinkedImage, LinkStore


@dataclass
class Clock:
    """A clock that stands still until it is set."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_image_is_found_until_its_time_is_up(clock: Clock) -> None:
    store = LinkStore(60, 1000, clock)
    [name] = store.keep([b"image"], ImageFormat.WEBP)
    clock.now += 59
    assert store.find(name) == LinkedImage(b"image", "image/webp", 1)
    clock.now += 1
    assert store.find(name) is None
    assert store.kept_bytes == 0


def test_the_next_request_frees_the_memory_whatever_it_asks(clock: Clock) -> None:
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


def test_past_the_bound_the_answer_not_fetched_for_longest_goes_first(clock: Clock) -> None:
    store = LinkStore(60, 10, clock)
    [first], [second] = (store.keep([b"four"], ImageFormat.PNG) for _ in range(2))
    assert store.find(first) is not None
    [third] = store.keep([b"four"], ImageFormat.PNG)
    assert [store.find(name) is not None for name in (first, second, third)] == [True, False, True]
    assert store.kept_bytes == 8


def test_an_answer_larger_than_the_bound_is_kept_alone(clock: Clock) -> None:
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
    """Switch threads as often as Python can, so that what lacks a lock breaks."""
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


def test_names_are_long_random_and_say_the_format() -> None:
    store = LinkStore(60, 2**20)
    names = {name for _ in range(50) for name in store.keep([b""] * 2, ImageFormat.JPEG)}
    assert len(names) == 100
    assert all(len(name) == len("x" * 32 + ".jpeg") and name.endswith(".jpeg") for name in names)


def test_a_link_does_not_give_away_the_other_images_of_its_answer() -> None:
    store = LinkStore(60, 2**20)
    mine, other = store.keep([b"mine", b"other"], ImageFormat.PNG)
    assert mine[16:] != other[16:]
    assert store.find(mine[:16] + "x" * 16 + ".png") is None


def test_every_link_of_an_answer_works_even_where_it_is_larger_than_the_bound(
    tiny_model: DalleModel, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.MAX_LINKED_BYTES", 2000)
    client = create_app(tiny_model, settings).test_client()
    answer = client.post("/v1/images/generations", json={"prompt": "a red circle", "n": 4, "response_format": "url"})
    served = [client.get(item["url"]) for item in answer.get_json()["data"]]
    assert [image.status_code for image in served] == [200] * 4
    assert sum(len(image.data) for image in served) > 2000


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

"""Generated input that is not valid HTTP, not JSON, or not a valid request: it is refused, and nothing breaks or hangs."""

from __future__ import annotations

import json
import os
import select
import socket
from typing import Any

import requests
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.end_to_end.callers import TIMEOUT_SECONDS
from tests.end_to_end.server_process import ServerProcess
from tests.faults.calling import connect, metrics

EXAMPLES = int(os.environ.get("FAULT_EXAMPLES", "150"))  # `make soak` sets more
FIELDS = [
    "text",
    "num_images",
    "seed",
    "temperature",
    "top_k",
    "guidance",
    "img_format",
    "grid",
    "seamless",
    "stream",
    "previews",
]
REFUSED = range(400, 500)
ANSWER_SECONDS = 0.05  # later responses are not read; the server must survive in any case
many = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])

names = st.sampled_from(
    [b"Host", b"Content-Length", b"Transfer-Encoding", b"Expect", b"Connection", b"Origin", b"X", b"", b"\xff: "]
)
values = st.one_of(
    st.sampled_from([b"0", b"-1", b"5", b"99999999999999999999", b"chunked", b"gzip, chunked", b"100-continue", b"close", b""]),
    st.binary(max_size=20).map(lambda value: value.replace(b"\n", b"")),
)
headers = st.lists(st.tuples(names, values), max_size=6).map(lambda pairs: b"".join(b"%s: %s\r\n" % pair for pair in pairs))
first_lines = st.tuples(
    st.sampled_from([b"GET", b"POST", b"PUT", b"get", b"BREW", b"", b"\x00", b"POST POST"]),
    st.sampled_from([b"/dalle", b"/", b"*", b"//dalle", b"/%", b"/%00", b"/../dalle", b"http://[::1", b"", b"/" + b"a" * 9000]),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/", b"", b"HTTP/1.1 x"]),
).map(b" ".join)
messages = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.tuples(first_lines, headers, st.binary(max_size=100)).map(
        lambda parts: parts[0] + b"\r\n" + parts[1] + b"\r\n" + parts[2]
    ),
)

odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(10**30), max_value=10**30),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", " ", "\0", "\ud800", "1", "true", "jpeg\n", "../x"]),
    st.lists(st.none(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)
# num_images is always invalid, so that nothing is drawn: only the validation is tested.
bodies = st.dictionaries(st.sampled_from(FIELDS), odd, max_size=6).map(lambda fields: {**fields, "num_images": -1})


def send(server: ServerProcess, message: bytes) -> bytes:
    """Send bytes, end the input if no response comes, and return the first bytes received; none if the server closed."""
    with connect(server) as connection:
        try:
            connection.sendall(message)
            if not select.select([connection], [], [], ANSWER_SECONDS)[0]:
                connection.shutdown(socket.SHUT_WR)
            return connection.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return b""  # the server closed without reading everything


@many
@given(messages)
@example(b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
@example(b"POST /dalle HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n")
@example(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100_000 + b"\r\n")
@example(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # TLS
def test_no_bytes_crash_the_server(server: ServerProcess, message: bytes) -> None:
    received = send(server, message)
    if received:
        version, status, _ = received.split(b" ", 2)
        assert version in {b"HTTP/1.0", b"HTTP/1.1"}
        assert int(status) < 500 or int(status) in {501, 505}, received


@many
@given(bodies)
@example({"text": "a\ud800", "num_images": -1})
@example({"text": None})
def test_no_field_is_an_internal_error(server: ServerProcess, fields: dict[str, Any]) -> None:
    answer = requests.post(f"{server.url}/dalle", data=json.dumps(fields), timeout=TIMEOUT_SECONDS)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()["error"]) >= {"message", "field"}


@many
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@example(b"[" * 100_000)
@example(b'{"text": ' * 50_000)
@example(b'{"text": "' + b"\\u0000" * 1000)
@example(b'\xef\xbb\xbf{"text": "a", "num_images": 0}')
@example(b'{"num_images": ' + b"9" * 100_000 + b"}")
def test_no_body_is_an_internal_error(server: ServerProcess, body: bytes) -> None:
    answer = requests.post(f"{server.url}/dalle", data=body, timeout=TIMEOUT_SECONDS)
    assert answer.status_code in REFUSED, answer.text
    assert answer.json()["error"]["message"]


def test_afterwards_the_server_works(server: ServerProcess) -> None:
    found = metrics(server)
    assert (found["dalle_engine_up"], found["dalle_images_failed_total"]) == (1, 0)
    assert requests.get(server.url, timeout=TIMEOUT_SECONDS).text == "hello world"

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.config.settings import Settings
from server.wsgi.listener import address_of, is_loopback, take_port, warn_of_open_door
from tests.ipv6 import needs_ipv6

ROOT = Path(__file__).parents[3]

TakePort = Callable[..., list[socket.socket]]


@pytest.fixture
def taken() -> Iterator[TakePort]:
    """Return take_port for some hosts, which closes the sockets after the test."""
    with ExitStack() as opened:

        def take(*hosts: str, port: int = 0) -> list[socket.socket]:
            return [opened.enter_context(listener) for listener in take_port(hosts, port)]

        yield take


def hosts_of(listeners: list[socket.socket]) -> list[str]:
    return [listener.getsockname()[0] for listener in listeners]


@needs_ipv6
@pytest.mark.parametrize(
    ("hosts", "bound"),
    [
        (["localhost"], ["127.0.0.1", "::1"]),
        (["LocalHost", "::1", "127.0.0.1", "127.0.0.2"], ["127.0.0.1", "::1", "127.0.0.2"]),
        (["0.0.0.0"], ["0.0.0.0"]),
        (["::"], ["::"]),
        (["::", "0.0.0.0"], ["::", "0.0.0.0"]),
        (["127.0.0.1", "0.0.0.0", "localhost"], ["0.0.0.0", "::1"]),
        (["localhost", "::"], ["127.0.0.1", "::"]),
    ],
)
def test_hosts_are_bound_once_with_one_port(hosts: list[str], bound: list[str], taken: TakePort) -> None:
    listeners = taken(*hosts)
    assert hosts_of(listeners) == bound
    assert len({listener.getsockname()[1] for listener in listeners}) == 1


@needs_ipv6
@pytest.mark.parametrize(("hosts", "reaches_ipv4"), [(["::"], True), (["127.0.0.2", "::"], False)])
def test_every_ipv6_address_is_every_ipv4_address_too_unless_one_is_named(
    hosts: list[str], reaches_ipv4: bool, taken: TakePort
) -> None:
    listeners = taken(*hosts)
    for listener in listeners:
        listener.listen()
    with socket.socket() as client:
        assert (client.connect_ex(("127.0.0.1", listeners[0].getsockname()[1])) == 0) is reaches_ipv4


@needs_ipv6
def test_a_port_that_is_in_use_on_one_of_the_loopbacks_is_an_error_that_names_it(taken: TakePort) -> None:
    for host, other in (("::1", "127.0.0.1"), ("127.0.0.1", "::1")):
        [busy] = taken(host)
        port = busy.getsockname()[1]
        with pytest.raises(OSError, match="in use") as refused:
            take_port(["localhost"], port)
        assert refused.value.filename == f"{host} port {port}"
        taken(other, port=port)  # nothing is left bound


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("ip") is None, reason="turns IPv6 off in a network namespace")
def test_without_ipv6_localhost_is_ipv4_alone() -> None:
    code = "from server.wsgi.listener import take_port; print([one.getsockname()[0] for one in take_port(['localhost'], 0)])"
    script = 'ip link set lo up && echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && exec "$@"'
    run = subprocess.run(
        ["unshare", "--net", "--map-root-user", "sh", "-c", script, "sh", sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if "unshare" in run.stderr:
        pytest.skip(f"this user cannot make network namespaces: {run.stderr}")
    assert run.stdout == "['127.0.0.1']\n", run.stderr


@pytest.mark.parametrize(
    ("host", "message"),
    [("a..b", "invalid host name"), ("a" * 64, "invalid host name"), (".", "."), ("203.0.113.7", "assign requested address")],
)
def test_an_invalid_host_or_another_machines_address_is_an_error(host: str, message: str) -> None:
    with pytest.raises(OSError, match=message) as refused:
        take_port(["127.0.0.1", host], 0)
    assert refused.value.filename.startswith(f"{host} port ")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_the_url_can_be_opened_on_this_machine(host: str, taken: TakePort) -> None:
    first = taken(host)[0]
    assert address_of(first) == f"http://127.0.0.1:{first.getsockname()[1]}"


@pytest.mark.parametrize(
    ("hosts", "keys", "named"),
    [
        (["127.0.0.1"], (), ""),
        (["127.8.9.1"], (), ""),
        (["localhost"], (), ""),
        (["0.0.0.0"], (), "can reach 0.0.0.0 can"),
        (["localhost", "0.0.0.0"], (), "can reach 0.0.0.0 can"),
        (["0.0.0.0"], ("a-key-of-the-page",), ""),
    ],
)
def test_a_server_open_to_others_without_keys_logs_a_warning(
    hosts: list[str], keys: tuple[str, ...], named: str, taken: TakePort, caplog: pytest.LogCaptureFixture
) -> None:
    listeners = taken(*hosts)
    warn_of_open_door(Settings(api_key=keys), listeners)
    assert all(map(is_loopback, listeners)) is not any("0.0.0.0" in host for host in hosts)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * bool(named)
    assert named in caplog.text

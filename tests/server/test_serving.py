from __future__ import annotations

import socket

import pytest

from server.serving import address_of, take_port


def test_a_taken_port_refuses_connections_until_the_server_listens() -> None:
    with take_port("127.0.0.1", 0) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname(), timeout=5)


def test_a_busy_port_is_an_error() -> None:
    with take_port("127.0.0.1", 0) as listener:
        listener.listen()
        with pytest.raises(OSError, match="in use"):
            take_port("127.0.0.1", listener.getsockname()[1])


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="assign requested address"):
        take_port("203.0.113.7", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_the_address_can_be_opened_from_this_machine(host: str) -> None:
    with take_port(host, 0) as listener:
        assert address_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"

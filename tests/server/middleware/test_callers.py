from __future__ import annotations

import pytest
from flask import Flask

from server.middleware.callers import caller, name_caller_by_key

KEY = "a-key-of-the-page"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.7", "address 192.0.2.7"),
        ("::ffff:192.0.2.7", "address 192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "network 2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "network 2001:db8:1:2::/64"),
        ("", "address unknown"),
        ("unix", "address unix"),
    ],
)
def test_without_keys_a_caller_is_an_address_or_an_ipv6_network(address: str, name: str) -> None:
    with Flask(__name__).test_request_context(environ_base={"REMOTE_ADDR": address}):
        assert caller() == name


def test_a_key_names_the_caller_and_is_not_in_the_name() -> None:
    with Flask(__name__).test_request_context():
        name_caller_by_key(KEY)
        named = caller()
    assert named.startswith("key ") and KEY not in named

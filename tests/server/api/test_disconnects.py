"""Hold what a WSGI server says of its caller; that waitress says it is tested on the real process."""

from __future__ import annotations

from flask import Flask

from server.api.disconnects import is_gone


def test_a_caller_is_there_where_the_server_cannot_tell(app: Flask) -> None:
    with app.test_request_context():
        assert not is_gone()


def test_a_caller_who_goes_while_served_is_gone(app: Flask) -> None:
    connected = [True]
    with app.test_request_context(environ_overrides={"waitress.client_disconnected": lambda: not connected[0]}):
        assert not is_gone()
        connected[0] = False
        assert is_gone()

"""The listening socket: bound before the model is loaded, and what can reach it."""

from __future__ import annotations

import errno
import logging
import os
import socket
from ipaddress import ip_address

from server.config.settings import Settings

_log = logging.getLogger("dalle.keys")


def take_port(host: str, port: int) -> socket.socket:
    """Bind a socket without listening yet, so that connections are refused and do not hang until the model is loaded.

    Raises OSError if the address is in use, is not this machine's, or this user may not bind it.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:
        raise OSError(errno.EINVAL, "invalid host name") from None
    # IPv4 first: what connects to "localhost" tries it in any case.
    family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        allow_reuse(listener, True)
        listener.bind(address)
        allow_reuse(listener, False)  # or another server could bind it too, until this one listens
    except OSError:
        listener.close()
        raise
    return listener


def allow_reuse(listener: socket.socket, is_allowed: bool) -> None:
    """Set whether a port can be bound whose last connections closed only recently. The option means this on POSIX only."""
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, is_allowed)


def is_loopback(listener: socket.socket) -> bool:
    """Return whether only this machine can reach the socket."""
    return ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def address_of(listener: socket.socket) -> str:
    """Return the URL at which a browser on this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def warn_of_open_door(settings: Settings, listener: socket.socket) -> None:
    """Log a warning if other machines can draw without an API key."""
    if not settings.api_keys and not is_loopback(listener):
        _log.warning(
            "anyone who can reach %s can draw, because no API key is set: set DALLE_API_KEY, or name a file with --api_key_file",
            settings.host,
        )

"""The listening sockets: bound before the model is loaded, and what can reach them."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from server.config.settings import Settings

_log = logging.getLogger("dalle.keys")

_FREE_PORT_ATTEMPTS = 20  # until a port is found that is free on every address

_Address = tuple[int, tuple[Any, ...]]  # a family, and what socket.bind takes in it


def take_port(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Bind a socket on every host, all with one port; port 0 takes one that is free on all of them.

    `localhost` is 127.0.0.1 and, where the machine has it, ::1. The sockets don't listen yet, so that connections are refused and
    do not hang until the model is loaded.

    Raises OSError, with the host and port as its `filename`, if an address is in use, is not this machine's, or this user may not
    bind it.
    """
    addresses = _addresses(hosts, port)
    for attempt in range(1, _FREE_PORT_ATTEMPTS + 1):
        try:
            return _bind_all(addresses, port)
        except OSError as error:
            if port != 0 or error.errno != errno.EADDRINUSE or attempt == _FREE_PORT_ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def _addresses(hosts: Sequence[str], port: int) -> list[_Address]:
    """Return the addresses of hosts without repetition, and without those that a wildcard of their family covers."""
    names = [name for host in hosts for name in (_loopbacks() if host.lower() == "localhost" else [host])]
    found = dict.fromkeys(_resolve(name, port) for name in names)
    covered = {family for family, address in found if _is_wildcard(address)}
    return [(family, address) for family, address in found if family not in covered or _is_wildcard(address)]


def _loopbacks() -> list[str]:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return ["127.0.0.1"]
    return ["127.0.0.1", "::1"]


def _resolve(name: str, port: int) -> _Address:
    try:
        found = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:
        raise _at(name, port, OSError(errno.EINVAL, "invalid host name")) from None
    except OSError as error:
        raise _at(name, port, error) from None
    # IPv4 first: what connects to a name tries it in any case.
    family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    return family, address


def _is_wildcard(address: tuple[Any, ...]) -> bool:
    return ip_address(address[0]).is_unspecified


def _bind_all(addresses: Sequence[_Address], port: int) -> list[socket.socket]:
    has_ipv4 = any(family == socket.AF_INET for family, _ in addresses)
    bound: list[socket.socket] = []
    try:
        for family, (host, _, *more) in addresses:
            try:
                bound.append(_bind(family, (host, port, *more), is_ipv6_only=has_ipv4))
            except OSError as error:
                raise _at(host, port, error) from None
            port = bound[0].getsockname()[1]
    except OSError:
        for listener in bound:
            listener.close()
        raise
    return bound


def _bind(family: int, address: tuple[Any, ...], *, is_ipv6_only: bool) -> socket.socket:
    listener = socket.socket(family)
    try:
        if is_ipv6_only and family == socket.AF_INET6:  # `::` would take IPv4's addresses too
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        allow_reuse(listener, True)
        listener.bind(address)
        allow_reuse(listener, False)  # or another server could bind it too, until this one listens
    except OSError:
        listener.close()
        raise
    return listener


def _at(host: str, port: int, error: OSError) -> OSError:
    error.filename = f"{host} port {port}"
    return error


def allow_reuse(listener: socket.socket, is_allowed: bool) -> None:
    """Set whether a port can be bound whose last connections closed only recently. The option means this on POSIX only."""
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, is_allowed)


def is_loopback(listener: socket.socket) -> bool:
    """Return whether only this machine can reach the socket."""
    return ip_address(_host_of(listener)).is_loopback


def address_of(listener: socket.socket) -> str:
    """Return the URL at which a browser on this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def warn_of_open_door(settings: Settings, listeners: Sequence[socket.socket]) -> None:
    """Log a warning if other machines can draw without an API key."""
    reachable = [_host_of(listener) for listener in listeners if not is_loopback(listener)]
    if not settings.api_keys and reachable:
        _log.warning(
            "anyone who can reach %s can draw, because no API key is set: set DALLE_API_KEY, or name a file with --api_key_file",
            " or ".join(reachable),
        )


def _host_of(listener: socket.socket) -> str:
    host: str = listener.getsockname()[0]
    return host.partition("%")[0]

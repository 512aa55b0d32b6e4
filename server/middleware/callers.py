"""Whose request it is, and which limit refused it. Turns in the queue, shares of it and the rate limit go by caller."""

from __future__ import annotations

from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from typing import Literal

from flask import g, request

_IPV6_NETWORK_BITS = 64  # what one household or host has to choose its addresses from


def caller() -> str:
    """Return the name of the current request's caller: its key's digest where keys are set, else its address."""
    name: str = g.get("caller") or _by_address(request.remote_addr)
    return name


def name_caller_by_key(key: str) -> None:
    """Name the current request's caller by its key. Only a digest is kept, because names also go to the rate limit's storage."""
    g.caller = f"key {sha256(key.encode()).hexdigest()[:16]}"


Limit = Literal["queue", "caller", "rate"]


def note_refusal(limit: Limit) -> None:
    """Note which limit refuses the current request."""
    g.refused_by = limit


def refused_by() -> Limit | None:
    """Return which limit has refused the current request, if one has."""
    limit: Limit | None = g.get("refused_by")
    return limit


def _by_address(address: str | None) -> str:
    """Return a caller's name by its address. All addresses of an IPv6 network of 64 bits are one caller."""
    try:
        parsed = ip_address(address or "")
    except ValueError:  # a Unix socket, or a proxy that sends a word
        return f"address {address or 'unknown'}"
    if not isinstance(parsed, IPv6Address):
        return f"address {parsed}"
    if parsed.ipv4_mapped is not None:
        return f"address {parsed.ipv4_mapped}"
    host_bits = 128 - _IPV6_NETWORK_BITS
    return f"network {IPv6Address(int(parsed) >> host_bits << host_bits)}/{_IPV6_NETWORK_BITS}"

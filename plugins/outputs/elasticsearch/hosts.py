"""The nodes of a cluster, from `hosts`, `host` or `cloud_id`."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_plus, urlsplit

_PLAIN: Final = re.compile(r"([^:]+?)(?::(\d+))?")
_ESCAPED: Final = re.compile(r"(.*)%\{(.*)\}:%\{(.*)\}(@.*)")
_ESCAPED_VALUE: Final = re.compile(r"%\{(.*)\}")
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Node:
    """Where a node is, and who we are there."""

    scheme: str
    host: str
    port: int
    path: str = ""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """The address, without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def authorization(self) -> str | None:
        """The header's value (RFC 7617); None without a user."""
        if self.user is None:
            return None
        return "Basic " + base64.b64encode(f"{self.user}:{self.password or ''}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Defaults:
    """What an address leaves out."""

    scheme: str = "http"
    port: int = 9200
    path: str | None = None
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


def escaped(value: str | None) -> str | None:
    """A user or password; `%{...}` becomes percent-encoded, as fluent-plugin-elasticsearch sends it."""
    found = None if value is None else _ESCAPED_VALUE.search(value)
    return value if found is None else quote_plus(found[1])


def parse(text: str, defaults: Defaults) -> list[Node]:
    """The nodes in a list of `host`, `host:port`, IPv6 addresses and URLs, separated by commas.

    Credentials in a URL are used as they stand there, without percent-decoding, as Fluentd does.

    Raises:
        ValueError: says which address is wrong, without its credentials.
    """
    nodes = [_node(part.strip(), defaults) for part in text.split(",") if part.strip()]
    if not nodes:
        raise ValueError("expected at least one host")
    return nodes


def _node(text: str, defaults: Defaults) -> Node:
    path = _path(defaults.path)
    if found := _PLAIN.fullmatch(text):
        port = int(found[2]) if found[2] else defaults.port
        return _checked(Node(defaults.scheme, found[1], port, path, defaults.user, defaults.password))
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if _is_ipv6(bare):
        return _checked(Node(defaults.scheme, bare, defaults.port, path, defaults.user, defaults.password))
    if found := _ESCAPED.fullmatch(text):
        text = f"{found[1]}{quote_plus(found[2])}:{quote_plus(found[3])}{found[4]}"
    shown = re.sub(r"^(\w+://)?.*@", lambda found: found[1] or "", text)
    try:
        url = urlsplit(text)
        port_given, host = url.port, url.hostname
    except ValueError:
        raise ValueError(f"{shown!r} is no URL of a node") from None
    if url.scheme not in _PORTS or not host:
        raise ValueError(f"{shown!r}: expected host, host:port, or a URL with http:// or https://")
    return _checked(
        Node(
            url.scheme,
            host,
            port_given if port_given is not None else _PORTS[url.scheme],
            _path(url.path) or path,
            url.username or defaults.user,
            url.password if url.username else defaults.password,
        )
    )


def cloud(cloud_id: str, user: str | None, password: str | None) -> Node:
    """The Elasticsearch address in a Cloud ID: `name:base64(domain[:port]$elasticsearch$kibana)`.

    Raises:
        ValueError: it is none.
    """
    try:
        parts = base64.b64decode(cloud_id.rpartition(":")[2], validate=True).decode("ascii").split("$")
        domain, _, port = parts[0].partition(":")
        if not domain or not parts[1]:
            raise ValueError
        return Node("https", f"{parts[1]}.{domain}", int(port or 443), "", user, password)
    except (binascii.Error, UnicodeError, IndexError, ValueError):
        raise ValueError("not a Cloud ID: expected the name, a colon and base64") from None


def _checked(node: Node) -> Node:
    if not 0 < node.port < 65536:
        raise ValueError(f"{node}: expected a port from 1 to 65535")
    if re.search(r"[\s/@]", node.host):
        raise ValueError(f"{node.host.rpartition('@')[2]!r} is no host name")
    return node


def _path(path: str | None) -> str:
    stripped = (path or "").strip("/")
    return f"/{stripped}" if stripped else ""


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False

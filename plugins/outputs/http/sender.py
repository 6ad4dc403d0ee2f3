"""Sending requests by urllib3: with a connection for each, or with connections that stay open."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from forwarder.api import ForwarderError

_TEXT: Final = 300
_MOST_ANSWER: Final = 64 << 10


class UnreachableError(ForwarderError):
    """There was no answer."""


class Answer(NamedTuple):
    """What the server said."""

    status: int
    text: str
    """Reason and the start of the body."""


class Sender:
    """Sends requests. May be used from several threads.

    Args:
        connections: that stay open, per server; 0: each request has its own. Timeouts in seconds.
        context: gives the present TLS context; None: plain HTTP only.
    """

    def __init__(
        self, *, connections: int, connect_timeout: float, read_timeout: float, proxy: str | None,
        context: Callable[[], ssl.SSLContext] | None,
    ) -> None:  # fmt: skip
        self._connections = connections
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)
        self._proxy = None if proxy is None else _split_proxy(proxy)
        self._context = context
        self._lock = Lock()
        self._pools: urllib3.PoolManager | None = None
        self._seen: ssl.SSLContext | None = None

    def send(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Sends one request and reads the answer; redirects are answers.

        Raises:
            UnreachableError: no answer came. The server may have taken the body all the same.
        """
        pools = self._open()
        try:
            response = pools.request(
                method, url, body=body, headers=dict(headers), timeout=self._timeout, retries=False,
                redirect=False, preload_content=False,
            )  # fmt: skip
            try:
                text = response.read(_MOST_ANSWER, decode_content=True)
                response.drain_conn()
            finally:
                response.release_conn()
        except HTTPError as error:
            raise UnreachableError(f"no answer from {_without_secrets(url)}: {_plain(error)}") from error
        finally:
            if not self._connections:
                pools.clear()
        shown = " ".join(text.decode("utf-8", "replace").split())[:_TEXT]
        return Answer(response.status, " ".join(filter(None, (response.reason, shown))))

    def close(self) -> None:
        """Closes the connections."""
        with self._lock:
            if self._pools is not None:
                self._pools.clear()
                self._pools = None

    def _open(self) -> urllib3.PoolManager:
        context = None if self._context is None else self._context()
        if not self._connections:
            return self._make(context)
        with self._lock:
            if self._pools is None or context is not self._seen:  # its files have changed
                self._pools, self._seen = self._make(context), context
            return self._pools

    def _make(self, context: ssl.SSLContext | None) -> urllib3.PoolManager:
        if context is not None and context.verify_mode is ssl.CERT_NONE:
            urllib3.disable_warnings(InsecureRequestWarning)
        if self._proxy is None:
            return urllib3.PoolManager(maxsize=max(1, self._connections), ssl_context=context)
        url, credentials = self._proxy
        headers = urllib3.make_headers(proxy_basic_auth=credentials)
        return urllib3.ProxyManager(
            url, maxsize=max(1, self._connections), ssl_context=context, proxy_headers=headers
        )


def _split_proxy(url: str) -> tuple[str, str | None]:
    """The proxy's URL without its credentials, and those."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, None
    host = parts.netloc.rpartition("@")[2]
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return urlunsplit((parts.scheme, host, parts.path, "", "")), credentials


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _plain(error: HTTPError) -> str:
    """Without the addresses of objects."""
    text = str(error)
    return text.rpartition(">: ")[2] if ">: " in text else text

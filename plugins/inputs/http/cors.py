"""Cross-origin resource sharing, as Fluentd's in_http does it.

Source: the Fetch standard, "CORS protocol" (https://fetch.spec.whatwg.org/#http-cors-protocol).
"""

from __future__ import annotations

from typing import Final

from forwarder.api.http_message import Head, Response

_PREFLIGHT: Final = (b"access-control-request-method", b"access-control-request-headers")


class Cors:
    """Which origins may send.

    Args:
        origins: `*`, whole origins, and ones with one `*` in them.
    """

    def __init__(self, origins: list[str], *, credentials: bool) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origins)
        self._patterns = [tuple(origin.split("*", 1)) for origin in origins if "*" in origin]
        self._credentials = credentials

    def admits(self, head: Head) -> bool:
        """Whether the request may send events; one without an origin comes from no browser."""
        origin = head.header(b"origin")
        return origin is None or self._any or self._known(origin)

    def headers(self, head: Head) -> tuple[tuple[str, str], ...]:
        """For the response to a request that was admitted."""
        if self._any:
            return (("Access-Control-Allow-Origin", "*"),)
        origin = head.header(b"origin")
        if origin is None or not self._known(origin):
            return ()
        headers = (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))
        return (*headers, ("Access-Control-Allow-Credentials", "true")) if self._credentials else headers

    def preflight(self, head: Head) -> Response:
        """Answers the OPTIONS request that a browser sends first."""
        method, fields = (head.header(name) for name in _PREFLIGHT)
        allowed = self.headers(head)
        if method != "POST" or not allowed:
            return Response(403, b"", "text/plain")
        answers = (("Access-Control-Allow-Methods", "POST"), ("Access-Control-Allow-Headers", fields or ""))
        return Response(200, b"", "text/plain", (*answers, *allowed))

    def _known(self, origin: str) -> bool:
        return origin in self._origins or any(
            origin.startswith(start) and origin.endswith(end) for start, end in self._patterns
        )

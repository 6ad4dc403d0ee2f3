"""A client of the Kubernetes API: pods and namespaces, by urllib3."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

if TYPE_CHECKING:
    import urllib3

_TOKEN_SECONDS: Final = 60.0
"""How long a token counts before its file is read again: bound tokens are renewed in place."""


class ApiError(Exception):
    """The API server could not be asked, or answered neither with the object nor that there is none."""


class Client:
    """Asks for objects. Used by one thread."""

    def __init__(
        self,
        url: str,
        version: str,
        *,
        ca_file: str | None,
        client_cert: str | None,
        client_key: str | None,
        verify: bool,
        token_file: str | None,
        open_timeout: float,
        read_timeout: float,
    ) -> None:
        import urllib3  # noqa: PLC0415 (only with an API server)

        self._base = f"{url.rstrip('/').removesuffix('/api')}/api/{quote(version, safe='')}"
        self._token_file = token_file
        self._token: tuple[float, str] = (float("-inf"), "")
        if not verify:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._pool: urllib3.PoolManager = urllib3.PoolManager(
            num_pools=2,
            ca_certs=ca_file,
            cert_file=client_cert,
            key_file=client_key,
            cert_reqs="CERT_REQUIRED" if verify else "CERT_NONE",
            timeout=urllib3.Timeout(connect=open_timeout, read=read_timeout),
            retries=False,
        )

    def pod(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The pod; None: there is none. Raises ApiError."""
        return self._get(f"/namespaces/{quote(namespace, safe='')}/pods/{quote(name, safe='')}")

    def namespace(self, name: str) -> dict[str, Any] | None:
        """The namespace; None: there is none. Raises ApiError."""
        return self._get(f"/namespaces/{quote(name, safe='')}")

    def close(self) -> None:
        """Closes connections."""
        self._pool.clear()

    def _get(self, path: str) -> dict[str, Any] | None:
        import urllib3  # noqa: PLC0415

        headers = {"Accept": "application/json"}
        try:
            if token := self._bearer():
                headers["Authorization"] = f"Bearer {token}"
            response = self._pool.request("GET", self._base + path, headers=headers)
            if response.status == 404:
                return None
            if response.status != 200:
                raise ApiError(f"GET {self._base}{path}: status {response.status}")
            found = json.loads(response.data)
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            raise ApiError(f"GET {self._base}{path}: {error}") from error
        if not isinstance(found, dict) or not isinstance(found.get("metadata"), dict):
            raise ApiError(f"GET {self._base}{path}: no object in the answer")
        return found

    def _bearer(self) -> str:
        if self._token_file is None:
            return ""
        read_at, token = self._token
        if time.monotonic() - read_at >= _TOKEN_SECONDS:
            with open(self._token_file, encoding="ascii") as file:
                token = file.read().strip()
            self._token = (time.monotonic(), token)
        return token

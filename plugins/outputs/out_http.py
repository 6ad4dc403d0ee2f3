"""`<match> @type http`: each chunk as one HTTP request.

*Delivery*: at least once: a request without an answer, or with one of `retryable_response_codes`, is tried
again by the retry rules of `<buffer>`; the server may have taken it. Any other answer but 2xx ends the chunk:
it goes to `<secondary>` or a backup file and counts as rejected; with `error_response_as_unrecoverable false`
it is logged and counts as lost (`http_STATUS`).

*Differs from Fluentd*: `open_timeout` and `read_timeout` are 60 s where they are not set (Fluentd waits for
ever). A proxy from the environment obeys `no_proxy`. Certificate files that change are used for new
connections. The system's authorities count besides `tls_ca_cert_path`.
"""

from __future__ import annotations

import base64
import os
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from forwarder import _native
from forwarder.api import (
    Chunk,
    CompiledFormatter,
    ConfigError,
    EventBatch,
    ForwarderError,
    Output,
    Section,
    UnrecoverableError,
    array,
    boolean,
    enum,
    files,
    formatter_section,
    hash_,
    integer,
    optional_section,
    string,
)
from forwarder.api.formatting import LineFormatter
from forwarder.api.shared_sections import TLS_VERSIONS

if TYPE_CHECKING:
    from forwarder.api.tls_client import ClientTls
    from forwarder.plugins.outputs.http.aws import Signer
    from forwarder.plugins.outputs.http.sender import Sender

_SECONDS: Final = 60
_PLACEHOLDER: Final = re.compile(r"[$%]\{[^}]+\}")
_NO_URL: Final = re.compile(r"""%(?![0-9A-Fa-f]{2}).{0,2}|[^!-~]|["<>\\^`{}]""")
_UNKNOWN: Final = "placeholder.invalid"
_CONTENT_TYPES: Final = {
    "json": "application/x-ndjson",
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "ltsv": "text/tab-separated-values",
    "msgpack": "application/x-msgpack",
    "out_file": "text/plain",
    "single_value": "text/plain",
    "stdout": "text/plain",
    "hash": "text/plain",
}


class Auth(Section):
    """`<auth>`."""

    method = enum("How to authenticate.", ("basic", "aws_sigv4"), "basic")
    username = string("For basic.", None)
    password = string("For basic.", None, secret=True)
    aws_service = string("For aws_sigv4: the service, such as `es` or `aoss`.", None)
    aws_region = string("For aws_sigv4: the region.", None)
    aws_role_arn = string("For aws_sigv4: a role to assume.", None)

    def configure(self) -> None:
        if self.method == "aws_sigv4":
            for name in ("aws_service", "aws_region"):
                if not getattr(self, name):
                    raise ConfigError(f"{name} is required for aws_sigv4 auth", param=name)


class HttpOutput(Output):
    """Chunks as HTTP requests."""

    multi_workers_ready = True

    endpoint = string("Where to send: `http://host/path`; may hold placeholders for the chunk keys.")
    http_method = enum("The method.", ("put", "post"), "post")
    proxy = string(
        "URL of a proxy; not set: HTTP_PROXY or http_proxy of the environment, but for no_proxy.",
        None,
        secret=True,
    )
    content_type = string("Content-Type; not set: as the formatter says.", None)
    json_array = boolean("Send a JSON array instead of lines; for `<format> @type json`.", False)
    headers = hash_("Further headers.", None, secret=True)
    headers_from_placeholders = hash_(
        "Further headers with placeholders for the chunk keys.", None, secret=True
    )
    compress = enum("Compression of the body.", ("text", "gzip"), "text")
    allowed_hosts = array("Hosts that a placeholder in the endpoint's host may give.", [], of="string")
    open_timeout = integer("Seconds to connect.", None)
    read_timeout = integer("Seconds to wait for the answer.", None)
    ssl_timeout = integer(
        "Seconds for each step of the TLS handshake, and to connect where it is longer than open_timeout.",
        None,
    )
    reuse_connections = boolean("Keep connections open for further chunks.", False)
    tls_ca_cert_path = string("Authorities besides the system's (PEM).", None)
    tls_client_cert_path = string("Our certificate, followed by its chain (PEM).", None)
    tls_private_key_path = string("Its private key (PEM).", None)
    tls_private_key_passphrase = string("Passphrase of that key.", None, secret=True)
    tls_verify_mode = enum("Whether the server's certificate is checked.", ("none", "peer"), "peer")
    tls_version = enum("The one TLS version that is spoken.", TLS_VERSIONS, "TLSv1_2")
    tls_ciphers = string("OpenSSL's cipher list for TLS up to 1.2.", "ALL:!aNULL:!eNULL:!SSLv2")
    error_response_as_unrecoverable = boolean("Give a chunk up that got an error response.", True)
    retryable_response_codes = array(
        "Answers after which a chunk is tried again; not set: 503.", None, of="integer"
    )

    format = formatter_section("How events are written.", default="json")
    auth = optional_section(Auth, "How to authenticate.")

    _array: CompiledFormatter | None = None

    def configure(self) -> None:
        if self.proxy is not None:
            _check_url("proxy", self.proxy)
        self._host = self._check_endpoint()
        kind = self.format.context.type_name
        if self.json_array:
            if kind != "json":
                raise ConfigError(
                    "json_array option could be used with json formatter only", param="json_array"
                )
            self._array = self._array_formatter()
        if self.content_type is None and kind not in _CONTENT_TYPES:
            raise ConfigError(f"content_type is needed with the formatter {kind}", param="content_type")
        self._content_type = self.content_type or (
            "application/json" if self.json_array else _CONTENT_TYPES[kind]
        )
        codes = self.retryable_response_codes
        self._retryable = frozenset((503,) if codes is None else codes)
        self._pack = files.packer(self.compress)
        self._tls = self._client_tls() if self.endpoint.startswith("https") else None
        self._signer: Signer | None = None
        self._sender: Sender | None = None

    def start(self) -> None:
        # here and not above: the HTTP client costs megabytes, and `forwarder check` can do without
        from forwarder.plugins.outputs.http.sender import Sender  # noqa: PLC0415

        connect = self.open_timeout or _SECONDS
        self._sender = Sender(
            connections=self.buffer.flush_thread_count if self.reuse_connections else 0,
            connect_timeout=connect if self._tls is None else max(connect, self.ssl_timeout or 0),
            read_timeout=self.read_timeout or _SECONDS,
            proxy=self._proxy(),
            context=None if self._tls is None else self._tls.context,
        )
        if self.auth is not None and self.auth.method == "aws_sigv4":
            from forwarder.plugins.outputs.http.aws import Signer  # noqa: PLC0415

            service, region = self.auth.aws_service or "", self.auth.aws_region or ""
            self._signer = Signer(service, region, self.auth.aws_role_arn)

    def format_batch(self, batch: EventBatch) -> bytes:
        return self.format.format_batch(batch) if self._array is None else self._array.format(batch)

    def write(self, chunk: Chunk) -> None:
        if self._sender is None:
            raise ForwarderError("not started")
        url = self._url(chunk)
        content = b"[" + chunk.read()[:-1] + b"]" if self.json_array else chunk.read()
        body = b"".join(self._pack([content]))
        method = self.http_method.upper()
        answer = self._sender.send(method, url, body, self._headers(chunk, method, url, body))
        if 200 <= answer.status < 300:
            return
        what = f"{answer.status} {answer.text}"
        if answer.status in self._retryable:
            raise ForwarderError(what)
        if self.error_response_as_unrecoverable:
            raise UnrecoverableError(what, whole=True)
        self.log.error("got an error response, the chunk is given up", response=what, count=chunk.count)
        self.context.drop(chunk.count, f"http_{answer.status}")

    def close(self) -> None:
        if self._sender is not None:
            self._sender.close()

    # ------------------------------------------------------------ requests

    def _url(self, chunk: Chunk) -> str:
        url = self.extract_placeholders(self.endpoint, chunk)
        try:
            host = urlsplit(url).hostname
        except ValueError as error:
            raise UnrecoverableError(f"endpoint {url!r}: {error}", whole=True) from None
        if host != self._host:
            if not self.allowed_hosts:
                raise UnrecoverableError(
                    "allowed_hosts is required with placeholders in the endpoint's host", whole=True
                )
            if host not in self.allowed_hosts:
                raise UnrecoverableError(f"host {host!r} is not one of allowed_hosts", whole=True)
        return url

    def _headers(self, chunk: Chunk, method: str, url: str, body: bytes) -> dict[str, str]:
        headers = {"User-Agent": "forwarder", **_named(self.headers)}
        for name, template in _named(self.headers_from_placeholders).items():
            headers[name] = _one_line(self.extract_placeholders(template, chunk))
        if self.compress == "gzip":
            headers = _with(headers, {"Content-Encoding": "gzip"})
        headers = _with(headers, {"Content-Type": self._content_type})
        if self._signer is not None:
            return _with(headers, dict(self._signer.headers(method, url, body, self._content_type)))
        if self.auth is not None:
            credentials = f"{self.auth.username or ''}:{self.auth.password or ''}".encode()
            basic = base64.b64encode(credentials).decode()
            headers = _with(headers, {"Authorization": f"Basic {basic}"})
        return headers

    # ------------------------------------------------------------ configuration

    def _check_endpoint(self) -> str | None:
        """The endpoint's host; one that no host has where a placeholder gives it."""
        text = _PLACEHOLDER.sub(_UNKNOWN, self.endpoint)
        _check_url("endpoint", text)
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigError(f"endpoint: {error}", param="endpoint") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ConfigError("endpoint: expected http://HOST/PATH or https://HOST/PATH", param="endpoint")
        return host

    def _array_formatter(self) -> CompiledFormatter:
        floats = "oj" if getattr(self.format, "json_parser", "oj") == "oj" else "ruby"
        end = ""
        if isinstance(self.format, LineFormatter):
            end = self.format.line_end(getattr(self.format, "add_newline", True))
        return _native.json_formatter(floats, end + ",")

    def _client_tls(self) -> ClientTls:
        from forwarder.api.tls_client import ClientTls, TlsOptions  # noqa: PLC0415 - loads OpenSSL

        for name in ("tls_ca_cert_path", "tls_client_cert_path", "tls_private_key_path"):
            path = getattr(self, name)
            if path is not None and not os.path.isfile(path):
                raise ConfigError(f"{name} is wrong: there is no file {path}", param=name)
        insecure = self.tls_verify_mode == "none"
        if insecure:
            self.log.warning("tls_verify_mode none: whoever answers gets the events and the credentials")
        return ClientTls(
            TlsOptions(
                version=self.tls_version, ciphers=self.tls_ciphers, insecure=insecure,
                ca_paths=[self.tls_ca_cert_path] if self.tls_ca_cert_path else [],
                ca_param="tls_ca_cert_path",
                cert_path=self.tls_client_cert_path, key_path=self.tls_private_key_path,
                passphrase=self.tls_private_key_passphrase,
            )
        )  # fmt: skip

    def _proxy(self) -> str | None:
        if self.proxy is not None:
            return self.proxy
        from_environment = os.environ.get("HTTP_PROXY") or os.environ.get("http_proxy")
        if not from_environment:
            return None
        from urllib.request import proxy_bypass  # noqa: PLC0415 - loads much, and few have a proxy

        return None if proxy_bypass(self._host or "") else from_environment


def _check_url(name: str, text: str) -> None:
    odd = _NO_URL.search(text)
    if odd is not None:
        raise ConfigError(f"{name}: {odd[0]!r} cannot stand in a URL: write it as %XX", param=name)


def _named(headers: dict[str, Any] | None) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in (headers or {}).items()
    }


def _with(headers: dict[str, str], more: dict[str, str]) -> dict[str, str]:
    """`more` in place of headers of the same name, however that is written."""
    names = {name.lower() for name in more}
    return {name: value for name, value in headers.items() if name.lower() not in names} | more


def _one_line(value: str) -> str:
    """A header's value that comes from events: what would end the header is taken out."""
    return "".join(character for character in value if character.isprintable() or character == "\t")

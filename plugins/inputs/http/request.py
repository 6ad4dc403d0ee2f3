"""What one request of in_http says: its parameters, and where in it the events are."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from forwarder._native import form_fields, inflate
from forwarder.api.http_message import Head

MAX_FIELDS: Final = 1000
"""Fields of a query, a form or a multipart body."""

_ENCODINGS: Final = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate", "zstd": "zstd"}
_SAME: Final = ("", "identity")
_MULTIPART: Final = re.compile(r'multipart/form-data; boundary="?([^"]+)"?')
_PART_NAME: Final = re.compile(
    rb'^content-disposition:.*?[; ]name="?([^";\r\n]*)"?', re.IGNORECASE | re.MULTILINE
)
_BODY_KINDS: Final = (
    ("application/json", b"json"),
    ("application/csp-report", b"json"),
    ("application/msgpack", b"msgpack"),
    ("application/x-ndjson", b"ndjson"),
)
_FORMS: Final = ((b"msgpack", "msgpack"), (b"json", "text"), (b"ndjson", "lines"))
"""In the order in which Fluentd looks for them, with what the native reader calls them."""
_SECONDS: Final = re.compile(rb"\s*[-+]?\d+(_\d+)*(\.\d+(_\d+)*)?([eE][-+]?\d+)?")

Fields = dict[bytes, bytes]


class Bad(Exception):  # noqa: N818 - a request, not an error of ours
    """The request cannot be taken.

    Attributes:
        status: for the response. reason: the ledger's word. detail: for the sender and the log.
    """

    def __init__(self, detail: str, reason: str, status: int = 400) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


class Content(NamedTuple):
    """The events of a request."""

    form: str
    """"text", "lines" or "msgpack"."""
    data: bytes


def split_target(target: str) -> tuple[str, bytes]:
    """Path, as it stands there, and query. Raises Bad."""
    path, _, query = target.partition("#")[0].partition("?")
    if not path.startswith("/") or path.startswith("//"):
        try:
            parts = urlsplit(target)
        except ValueError as error:
            raise Bad(str(error), "bad_request") from None
        path, query = parts.path, parts.query
    if not path.startswith("/"):
        raise Bad("the path is the tag: expected /TAG", "bad_request")
    return path, query.encode("ascii")


def tag_of(path: str) -> str:
    """`/a/b` is `a.b`."""
    return ".".join(path[1:].rstrip("/").split("/"))


def fields_of(text: bytes) -> Fields:
    """A query's or form's fields; of several with one name the last one counts. Raises Bad."""
    if not text:
        return {}
    try:
        return dict(form_fields(text, MAX_FIELDS))
    except ValueError as error:
        raise Bad(str(error.args[0]), "limit") from None


def plain(head: Head, body: bytes, limit: int) -> bytes:
    """The body without its content encoding. `limit`: longest result. Raises Bad."""
    encoding = (head.header(b"content-encoding") or "").strip().lower()
    if encoding in _SAME:
        return body
    method = _ENCODINGS.get(encoding)
    if method is None:
        raise Bad(f"content encoding {encoding!r} is none of gzip, deflate, zstd", "decompress_error", 415)
    try:
        return inflate(method, body, limit)
    except ValueError as error:
        detail, reason = error.args
        raise Bad(f"cannot decompress the body: {detail}", reason) from None


def fields_of_body(head: Head, body: bytes) -> Fields:
    """The body as fields: those of a form, or one with the name of its content type. Raises Bad."""
    kind = head.header(b"content-type") or ""
    if kind.startswith("application/x-www-form-urlencoded"):
        return fields_of(body)
    multipart = _MULTIPART.match(kind)
    if multipart is not None:
        return _parts(body, multipart[1].encode("latin-1"))
    for start, name in _BODY_KINDS:
        if kind.startswith(start):
            return {name: body}
    return {}


def _parts(body: bytes, boundary: bytes) -> Fields:
    """The fields of a multipart body (RFC 7578); of several with one name the first one counts, and one
    without a boundary behind it was cut off."""
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, MAX_FIELDS + 1)
    if len(pieces) > MAX_FIELDS:
        raise Bad(f"more than {MAX_FIELDS} parts", "limit")
    fields: Fields = {}
    for piece in pieces[1:-1]:
        if piece.startswith(b"--"):
            break
        head, _, content = piece.partition(b"\r\n\r\n")
        name = _PART_NAME.search(head)
        if name is not None:
            fields.setdefault(name[1], content)
    return fields


def content_of(fields: Fields) -> Content:
    """Where the events are. Raises Bad."""
    for name, form in _FORMS:
        if name in fields:
            return Content(form, fields[name])
    raise Bad("'json', 'ndjson' or 'msgpack' parameter is required", "bad_request")


def time_of(fields: Fields) -> int | None:
    """What the parameter `time` says, in nanoseconds; None: nothing, or 0, which means now. Raises Bad."""
    match = _SECONDS.match(fields.get(b"time", b""))
    if match is None:
        return None
    seconds = float(match[0])
    if not seconds:
        return None
    if not 0 < seconds < 2**32:
        raise Bad("time is beyond what an event's time can hold", "invalid_time")
    if seconds < 1:
        return round(seconds * 1e9)
    # the shortest decimal form, so that 1700000000.1 is that and not .099999905
    whole, _, fraction = repr(seconds).partition(".")
    return int(whole) * 10**9 + int(fraction[:9].ljust(9, "0"))


def headers_of(head: Head) -> dict[str, list[str | bytes]]:
    """All headers by name."""
    headers: dict[str, list[str | bytes]] = {}
    for name, value in head.headers:
        headers.setdefault(name.decode("ascii"), []).append(text(value))
    return headers


def text(data: bytes) -> str | bytes:
    """As it goes into a record: text where it is UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data

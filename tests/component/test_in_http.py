"""in_http through a running engine: what is in a request, what is answered, and hostile clients."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import ssl
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
from waiting import wait_for

from forwarder import _native
from forwarder.api.testing import Driver, Event, run
from forwarder.config.diagnostics import InvalidConfiguration
from tests.conftest import Certificates

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NS = 1_000_000_000
JSON = {"Content-Type": "application/json"}
GZIP = JSON | {"Content-Encoding": "gzip"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MSGPACK = {"Content-Type": "application/msgpack"}


def config(parameters: str = "", match: str = "@type test") -> str:
    return f"""
<source>
  @type http
  port 0
  bind 127.0.0.1
  {parameters}
</source>
<match **>
  {match}
</match>
"""


@contextmanager
def serving(parameters: str = "", match: str = "@type test") -> Iterator[Driver]:
    with run(config(parameters, match)) as driver:
        yield driver


def port_of(driver: Driver) -> int:
    return int(driver.plugin("in_http").bound_port)


def connect(driver: Driver) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(driver)), timeout=10)


def ask(
    driver: Driver,
    path: str,
    body: bytes | str = b"",
    headers: dict[str, str] | None = None,
    method: str = "POST",
) -> http.client.HTTPResponse:
    """One request on a connection of its own; the answer's body is read."""
    with closing(http.client.HTTPConnection("127.0.0.1", port_of(driver), timeout=10)) as client:
        client.request(method, path, body, headers or {})
        response = client.getresponse()
        response.text = response.read().decode("latin-1")  # type: ignore[attr-defined]
        return response


def status(driver: Driver, *request: Any, **more: Any) -> int:
    return ask(driver, *request, **more).status


def lost(driver: Driver) -> dict[str, int]:
    return dict(driver["in_http"].lost)


@pytest.mark.parametrize(
    ("path", "headers", "body", "events"),
    [
        ("/t.a?time=7", JSON, b'{"a":1}', [("t.a", 7 * NS, {"a": 1})]),
        ("/t/a/b/?time=7", JSON, b'{"a":1}', [("t.a.b", 7 * NS, {"a": 1})]),
        ("/t//a%20b?time=7", JSON, b'{"a":1}', [("t..a%20b", 7 * NS, {"a": 1})]),
        ("http://other/t/a?time=7", JSON, b'{"a":1}', [("t.a", 7 * NS, {"a": 1})]),
        ("/?time=7", JSON, b'{"a":1}', [("", 7 * NS, {"a": 1})]),
        ("/t?time=1700000000.1", JSON, b"{}", [("t", 1_700_000_000_100_000_000, {})]),
        ("/t?time=0.25", JSON, b"{}", [("t", NS // 4, {})]),
        ("/t?time=7", JSON, b'[{"a":1},2,{"a":3}]', [("t", 7 * NS, {"a": 1}), ("t", 7 * NS, {"a": 3})]),
        ("/t?time=7", JSON | {"Content-Type": "application/json; charset=utf-8"}, b"{}", [("t", 7 * NS, {})]),
        ("/t?time=7", {"Content-Type": "application/csp-report"}, b'{"a":1}', [("t", 7 * NS, {"a": 1})]),
        ("/t?time=7", {"Content-Type": "application/x-ndjson"}, b'{"a":1}\r\n{"a":2}',
         [("t", 7 * NS, {"a": 1}), ("t", 7 * NS, {"a": 2})]),
        ("/t?time=7", MSGPACK, _native.msgpack_pack([{"a": 1}, {"b": b"\xff"}]),
         [("t", 7 * NS, {"a": 1}), ("t", 7 * NS, {"b": b"\xff"})]),
        ("/t?time=7", FORM, b"json=%7B%22a%22%3A1%7D", [("t", 7 * NS, {"a": 1})]),
        ("/t", FORM, b"time=7&json=%7B%22a%22%3A1%7D", [("t", 7 * NS, {"a": 1})]),
        ("/t?time=7", FORM, b"msgpack=%81%A1a%01", [("t", 7 * NS, {"a": 1})]),
        ("/t?time=7", FORM, b"ndjson={%22a%22:1}%0A{}", [("t", 7 * NS, {"a": 1}), ("t", 7 * NS, {})]),
        ("/t?time=7&json=%7B%22a%22%3A1%7D", {}, b"", [("t", 7 * NS, {"a": 1})]),
        ("/t", JSON, b'{"time":7,"a":1}', [("t", 7 * NS, {"a": 1})]),
        ("/t?time=8", JSON, b'{"time":7,"a":1}', [("t", 8 * NS, {"time": 7, "a": 1})]),
        ("/t", JSON, b'[{"time":7.5},{"time":8}]', [("t", 7_500_000_000, {}), ("t", 8 * NS, {})]),
        ("/t?time=7", {"Content-Type": 'multipart/form-data; boundary="B x"'},
         b'--B x\r\nContent-Disposition: form-data; filename="name"; name="json"\r\n\r\n{"a":\r\n1}\r\n'
         b'--B x\r\nContent-Disposition: form-data; name="json"\r\n\r\n{"a":2}\r\n--B x--',
         [("t", 7 * NS, {"a": 1})]),
    ],
)  # fmt: skip
def test_events_come_out_of_a_request(
    path: str, headers: dict[str, str], body: bytes, events: list[tuple[str, int, dict[str, Any]]]
) -> None:
    with serving() as driver:
        response = ask(driver, path, body, headers)
        assert (response.status, response.getheader("Content-Type")) == (200, "text/plain")
        assert driver.events() == [Event(*event) for event in events]
        assert driver["in_http"].received == len(events) + sum(lost(driver).values())


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, b'{"a":'),
        (JSON, b""),
        (JSON, b"7"),
        (JSON, b"[]"),
        ({"Content-Type": "application/x-ndjson"}, b"x\n\n"),
    ],
)
def test_what_is_no_record_is_answered_with_200_and_counted(headers: dict[str, str], body: bytes) -> None:
    with serving() as driver:
        assert status(driver, "/t", body, headers) == 200
        assert driver.events() == []
        assert lost(driver) == ({} if body == b"[]" else {"unmatched": 1})


@pytest.mark.parametrize(
    ("path", "headers", "body", "code", "reason"),
    [
        ("/t", {}, b'{"a":1}', 400, "bad_request"),
        ("/t", {"Content-Type": "text/plain"}, b'{"a":1}', 400, "bad_request"),
        ("/t", FORM, b"jsonn=1", 400, "bad_request"),
        ("/t", FORM, b"a&" * 1000, 400, "limit"),
        ("/t?" + "a&" * 1000, JSON, b"{}", 400, "limit"),
        ("/t", {"Content-Type": "multipart/form-data; boundary=B"}, b"\r\n--B" * 1001, 400, "limit"),
        ("/t", {"Content-Type": "multipart/form-data; boundary=B"}, b"nothing", 400, "bad_request"),
        # cut off: Fluentd answers 400 too
        (
            "/t",
            {"Content-Type": "multipart/form-data; boundary=B"},
            b'--B\r\nContent-Disposition: form-data; name="json"\r\n\r\n{"a":1}\r\n',
            400,
            "bad_request",
        ),
        ("/t", JSON, b'{"time":"soon"}', 400, "invalid_time"),
        ("/t", JSON, b'[{"a":1},{"time":[]}]', 400, "invalid_time"),
        ("/t?time=1e300", JSON, b"{}", 400, "invalid_time"),
        ("/t?time=-5", JSON, b"{}", 400, "invalid_time"),
        ("/t", MSGPACK, b"\x82\xa1a\x01", 400, "malformed"),
        ("/t", GZIP, b"{}", 400, "decompress_error"),
        ("/t", GZIP, gzip.compress(b"{}", mtime=0)[:-4], 400, "decompress_error"),
        ("/t", JSON | {"Content-Encoding": "br"}, b"{}", 415, "decompress_error"),
        ("http:///x", JSON, b"{}", 200, None),
        ("//[::1", JSON, b"{}", 400, "bad_request"),
        ("*", JSON, b"{}", 400, "bad_request"),
    ],
)
def test_a_request_that_cannot_be_taken_is_refused_and_counted(
    path: str, headers: dict[str, str], body: bytes, code: int, reason: str | None
) -> None:
    with serving() as driver:
        assert status(driver, path, body, headers) == code
        assert lost(driver) == ({} if reason is None else {reason: 1})
        assert driver["in_http"].received == 1
        assert ("failed to process request" in driver.log) is (reason is not None)
        assert status(driver, "/good", b"{}", JSON) == 200


def test_dump_error_log_false() -> None:
    with serving("dump_error_log false") as driver:
        assert status(driver, "/t", b"{}", {}) == 400
        assert "failed to process request" not in driver.log


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b'{"a":', mtime=0) + gzip.compress(b"1}", mtime=0)),
        ("X-GZIP", gzip.compress(b'{"a":1}', mtime=0)),
        ("deflate", zlib.compress(b'{"a":1}')),
        ("deflate", zlib.compress(b'{"a":1}', wbits=-15)),
        ("zstd", zstd.compress(b'{"a":1}')),
        ("identity", b'{"a":1}'),
    ],
)  # fmt: skip
def test_content_encodings(encoding: str, packed: bytes) -> None:
    with serving() as driver:
        assert status(driver, "/t", packed, JSON | {"Content-Encoding": encoding}) == 200
        assert driver.records() == [{"a": 1}]


def test_decompression_bombs() -> None:
    zeros = b"0" * (64 << 20)
    with serving("decompression_size_limit 1m") as driver:
        for encoding, packed in (("gzip", gzip.compress(zeros, 1)), ("zstd", zstd.compress(zeros))):
            assert status(driver, "/t", packed, JSON | {"Content-Encoding": encoding}) == 400
        assert lost(driver) == {"decompression_size_limit": 2}
        nested = b"[" * 1_000_000
        assert status(driver, "/t", nested, JSON) == 200
        assert lost(driver)["limit"] == 1


def test_fields_of_the_request() -> None:
    parameters = "add_http_headers true\nadd_query_params true\nadd_remote_addr true\nadd_tag_prefix http"
    with serving(parameters) as driver:
        headers = JSON | {"Host": "h", "User-Agent": "t", "X-Two-Words": "v\xe4"}
        assert status(driver, "/t?time=7&a-b=%C3%A4&HTTP_Q=r&QUERY_X=1", b'{"HTTP_HOST":0}', headers) == 200
        assert driver.events() == [
            Event(
                "http.t", 7 * NS,
                {
                    "HTTP_HOST": "h", "HTTP_Q": "r", "HTTP_ACCEPT_ENCODING": "identity",
                    "HTTP_CONTENT_LENGTH": "15", "HTTP_CONTENT_TYPE": "application/json",
                    "HTTP_USER_AGENT": "t", "HTTP_X_TWO_WORDS": b"v\xe4",
                    "QUERY_X": "1", "QUERY_TIME": "7", "QUERY_A_B": "ä", "QUERY_HTTP_Q": "r",
                    "QUERY_QUERY_X": "1", "REMOTE_ADDR": "127.0.0.1",
                },
            )
        ]  # fmt: skip
        with connect(driver) as sock:
            sock.sendall(
                b"POST /t HTTP/1.0\r\nX-Forwarded-For: 10.9.8.7, 10.1.1.1\r\nX-Forwarded-For: 10.2\r\n"
                b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            )
            assert sock.recv(12) == b"HTTP/1.1 200"
        record = driver.records()[1]
        assert record["REMOTE_ADDR"] == "10.9.8.7"
        assert record["HTTP_X_FORWARDED_FOR"] == ["10.9.8.7, 10.1.1.1", "10.2"]


@pytest.mark.parametrize(
    ("parse", "body", "code", "events"),
    [
        (
            "@type regexp\nexpression /^(?<a>\\w+) (?<time>\\d+)$/\ntime_type unixtime",
            b"x 5",
            200,
            [(5 * NS, {"a": "x"})],
        ),
        ("@type regexp\nexpression /^(?<a>\\w+) (?<b>\\d+)$/", b"no", 200, []),
        ("@type regexp\nexpression /^(?<time>.*)$/\ntime_format %Y", b"soon", 400, []),
        ("@type none", b"\xffany\nthing", 200, [(None, {"message": b"\xffany\nthing"})]),
        ("@type json", b'{"time":5,"a":1}', 200, [(5 * NS, {"a": 1})]),
        ("time_key at\nkeep_time_key true", b'{"at":5,"a":1}', 200, [(5 * NS, {"at": 5, "a": 1})]),
        ("time_format %Y-%m-%d\nutc true", b'{"time":"1970-01-02"}', 200, [(86400 * NS, {})]),
        ("time_format %Y-%m-%d\nutc true", b'{"time":"soon"}', 400, []),
        ("@type in_http\ntime_type float", b'{"time":"5.5"}', 200, [(5_500_000_000, {})]),
    ],
)
def test_parse(parse: str, body: bytes, code: int, events: list[tuple[int | None, dict[str, Any]]]) -> None:
    with serving(f"<parse>\n{parse}\n</parse>") as driver:
        assert status(driver, "/t", body, JSON) == code
        got = driver.events()
        assert [event.record for event in got] == [record for _, record in events]
        for event, (time_ns, _) in zip(got, events, strict=True):
            assert event.time_ns == time_ns or (time_ns is None and event.time_ns > 10**18)


@pytest.mark.parametrize(
    ("parameters", "code", "kind", "length"),
    [
        ("", 200, "text/plain", 0),
        ("use_204_response true", 204, "text/plain", 0),
        ("respond_with_empty_img true", 200, "image/gif; charset=utf-8", 35),
        ("respond_with_empty_img true\nuse_204_response true", 200, "image/gif; charset=utf-8", 35),
    ],
)
def test_answers(parameters: str, code: int, kind: str | None, length: int) -> None:
    with serving(parameters) as driver:
        with closing(http.client.HTTPConnection("127.0.0.1", port_of(driver), timeout=10)) as client:
            for _ in range(3):  # one connection
                client.request("POST", "/t", b"{}", JSON)
                response = client.getresponse()
                body = response.read()
                assert (response.status, response.getheader("Content-Type"), len(body)) == (
                    code,
                    kind,
                    length,
                )
        assert status(driver, "/t", method="GET") == status(driver, "/t", method="HEAD") == 200
        assert len(driver.events()) == 3
        (family,) = driver.plugin("in_http").measure()
        assert sum(sample.value for sample in family.samples) == 5


ORIGINS = 'cors_allow_origins ["http://a.com", "https://*.b.com"]'


@pytest.mark.parametrize(
    ("parameters", "origin", "code", "allowed"),
    [
        (ORIGINS, "http://a.com", 200, "http://a.com"),
        (ORIGINS, "https://x.b.com", 200, "https://x.b.com"),
        (ORIGINS, "http://a.com:8080", 403, None),
        (ORIGINS, "http://x.b.com", 403, None),
        (ORIGINS, None, 200, None),
        ('cors_allow_origins ["*"]', "http://any", 200, "*"),
        ("", "http://any", 200, None),
    ],
)
def test_cors(parameters: str, origin: str | None, code: int, allowed: str | None) -> None:
    headers = {} if origin is None else {"Origin": origin}
    with serving(parameters) as driver:
        response = ask(driver, "/t", b"{}", JSON | headers)
        assert (response.status, response.getheader("Access-Control-Allow-Origin")) == (code, allowed)
        assert len(driver.events()) == (code == 200)
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-A"}
        response = ask(driver, "/t", b"", headers | asked, "OPTIONS")
        if allowed is None:
            assert response.status == 403
        else:
            assert response.status == 200
            assert response.getheader("Access-Control-Allow-Origin") == allowed
            assert response.getheader("Access-Control-Allow-Methods") == "POST"
            assert response.getheader("Access-Control-Allow-Headers") == "X-A"
            asked["Access-Control-Request-Method"] = "PUT"
            assert status(driver, "/t", b"", headers | asked, "OPTIONS") == 403


def test_cors_with_credentials() -> None:
    with serving(ORIGINS + "\ncors_allow_credentials true") as driver:
        response = ask(driver, "/t", b"{}", JSON | {"Origin": "http://a.com"})
        assert response.getheader("Access-Control-Allow-Credentials") == "true"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("cors_allow_credentials true", "cors_allow_credentials"),
        ('cors_allow_origins ["*"]\ncors_allow_credentials true', "cors_allow_credentials"),
        ("add_tag_prefix \"\"", "add_tag_prefix"),
        ("body_size_limit 0", "body_size_limit"),
        ("<transport tls>\n</transport>", "cert_path"),
        ("<parse>\ntime_type string\ntimezone Nowhere\ntime_format %Y\n</parse>", "timezone"),
    ],
)  # fmt: skip
def test_wrong_configurations(parameters: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        run(config(parameters))


def test_a_full_buffer_is_503_and_nothing_is_lost() -> None:
    match = """@type test
  <buffer>
    chunk_limit_size 1k
    total_limit_size 2k
    retry_wait 0.01
    retry_max_interval 0.01
  </buffer>"""
    with serving(match=match) as driver:
        output = driver.plugin("out_test")
        output.fail_with = lambda _: OSError("the destination is away")
        codes: list[int] = []
        body = json.dumps({"a": "x" * 400})
        while len(codes) < 100 and 503 not in codes:
            response = ask(driver, "/t", body, JSON)
            codes.append(response.status)
        assert (codes.count(200), codes[-1]) == (len(codes) - 1, 503)
        assert response.getheader("Retry-After") == "1"
        books = driver["in_http"]
        assert (books.received, books.emitted, books.added) == (codes.count(200), codes.count(200), 0)
        output.fail_with = lambda _: None
        driver.flush()
        driver.wait_for_events(codes.count(200))
        driver.flush()
        assert status(driver, "/t", body, JSON) == 200
        assert lost(driver) == {}


def test_tls(certificates: Certificates) -> None:
    transport = f"""<transport tls>
    cert_path {certificates.cert}
    private_key_path {certificates.key}
  </transport>"""
    context = ssl.create_default_context(cafile=str(certificates.ca))
    with serving(transport) as driver:
        client = http.client.HTTPSConnection("127.0.0.1", port_of(driver), timeout=10, context=context)
        with closing(client):
            for size in (1, 100_000, 5_000_000):
                client.request("POST", "/t", json.dumps({"a": "x" * size}), JSON)
                response = client.getresponse()
                assert (response.status, response.read()) == (200, b"")
        assert [len(record["a"]) for record in driver.records()] == [1, 100_000, 5_000_000]


# ------------------------------------------------------------ hostile clients


def head(length: int, more: bytes = b"") -> bytes:
    return b"POST /t HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + more + (
        b"Content-Length: %d\r\n\r\n" % length
    )  # fmt: skip


def answer(sock: socket.socket) -> bytes:
    """Until the server closes."""
    data = b""
    with suppress(ConnectionResetError):
        while more := sock.recv(65536):
            data += more
    return data


def test_a_body_that_is_too_long_is_413_and_the_answer_arrives() -> None:
    with serving("body_size_limit 1k") as driver:
        long = b'{"a":"' + b"x" * 3_000_000 + b'"}'
        assert status(driver, "/t", b'{"a":"' + b"x" * 1016 + b'"}', JSON) == 200
        with connect(driver) as sock:  # sends on although it has been told
            with suppress(OSError):
                sock.sendall(head(len(long)) + long)
            assert answer(sock).startswith(b"HTTP/1.1 413")
        with connect(driver) as sock:
            with suppress(OSError):
                sock.sendall(b"POST /t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
                for _ in range(3):
                    sock.sendall(b"190\r\n" + b"x" * 400 + b"\r\n")
            assert answer(sock).startswith(b"HTTP/1.1 413")
        assert status(driver, "/t", b"{}", JSON) == 200


def test_chunks_and_pieces() -> None:
    with serving() as driver:
        with connect(driver) as sock:
            request = head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
            request += b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"a":1}') + b"0\r\n\r\n"
            for at in range(0, len(request), 7):
                sock.sendall(request[at : at + 7])
            sock.sendall(head(2) + b"{}" + head(2, b"Connection: close\r\n") + b"{}")  # pipelined
            assert answer(sock).count(b"HTTP/1.1 200") == 3
        assert driver.records() == [{"a": 1}, {}, {}]


def test_expect_100_continue() -> None:
    with serving("body_size_limit 1k") as driver:
        with connect(driver) as sock:
            sock.sendall(head(2, b"Expect: 100-continue\r\nConnection: close\r\n"))
            assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(b"{}")
            assert answer(sock).startswith(b"HTTP/1.1 200")
        for more, code in ((b"Expect: 100-continue\r\n", b"413"), (b"Expect: gold\r\n", b"417")):
            with connect(driver) as sock:
                sock.sendall(head(2000, more))
                assert answer(sock).split()[1] == code


@pytest.mark.parametrize(
    "data",
    [
        b"POST /t HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50_000,
        b"POST /t HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 300_000,
        b"POST /" + b"t" * 300_000,
        b"POST /t HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"POST /t HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /t HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n",
        b"POST /t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"\x00" * 1000,
    ],
)
def test_nonsense_costs_its_own_connection(data: bytes) -> None:
    with serving() as driver, connect(driver) as sock:
        with suppress(OSError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        assert answer(sock)[:10] in (b"", b"HTTP/1.1 4", b"HTTP/1.1 5")
        assert status(driver, "/t", b"{}", JSON) == 200
        assert driver.records() == [{}]


def test_a_body_that_ends_early_or_never_ends_gives_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwarder.plugins.inputs.in_http._REQUEST_SECONDS", 0.2)
    with serving() as driver, connect(driver) as slow:
        with connect(driver) as sock:
            sock.sendall(head(100) + b'{"a":1}')
        slow.sendall(head(1_000_000))
        started = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - started < 10:  # a byte now and then, for ever
                slow.sendall(b"[")
                time.sleep(0.01)
        assert time.monotonic() - started < 10
        assert status(driver, "/t", b"{}", JSON) == 200
        assert driver.records() == [{}]


def test_all_bodies_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwarder.plugins.inputs.in_http._BODIES_BYTES", 0)
    with serving("body_size_limit 100k") as driver:
        held = [connect(driver) for _ in range(5)]
        answers = []
        for sock in held:
            sock.sendall(head(100_000) + b" " * 99_999)
        server = driver.plugin("in_http")._server
        wait_for(lambda: server.statuses[503])
        assert server._bodies_bytes <= 400 << 10
        for sock in held:
            with suppress(OSError):
                sock.sendall(b" ")
                sock.shutdown(socket.SHUT_WR)
            answers.append(answer(sock)[9:12])
            sock.close()
        assert answers.count(b"503") == 1
        assert server._bodies_bytes == 0
        assert status(driver, "/t", b"{}", JSON) == 200


def test_a_keepalive_connection_is_closed_after_its_time() -> None:
    with serving("keepalive_timeout 0.2") as driver, connect(driver) as sock:
        sock.sendall(head(2) + b"{}")
        data = answer(sock)
        assert data.startswith(b"HTTP/1.1 200")
        assert b"close" not in data


def test_a_request_in_progress_at_the_stop_is_answered() -> None:
    with serving() as driver, connect(driver) as busy, connect(driver) as idle:
        busy.sendall(head(2))
        server = driver.plugin("in_http")._server
        wait_for(lambda: any(each.head for each in list(server._connections)))
        stopping = threading.Thread(target=driver.stop)
        stopping.start()
        assert answer(idle) == b""
        busy.sendall(b"{}")
        data = answer(busy)
        assert data.startswith(b"HTTP/1.1 200")
        assert b"Connection: close" in data
        stopping.join()
        assert driver.records() == [{}]

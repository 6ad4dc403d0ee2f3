"""out_http against a server that answers as a test wants, and against another forwarder process."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bulk_server import BulkServer, Request
from forwarder_process import ForwarderProcess, free_port
from waiting import wait_for

from forwarder.api.testing import Driver, run
from forwarder.config import InvalidConfiguration
from tests.conftest import Certificates

DENSE = "<format>\n@type json\nadd_newline false\n</format>"
QUICK = """<buffer KEYS>
    flush_interval 0.05
    retry_wait 0.01
    retry_max_interval 0.05
  </buffer>"""


class Destination(BulkServer):
    """Takes any body."""

    def take(self, request: Request) -> dict[str, Any]:
        return {}


@pytest.fixture
def server() -> Iterator[Destination]:
    with Destination() as server:
        yield server


def config(endpoint: str, parameters: str = "", keys: str = "[]", more: str = "") -> str:
    return f"""
<match **>
  @type http
  endpoint {endpoint}
  {parameters}
  {QUICK.replace("KEYS", keys)}
  {more}
</match>
"""


@contextmanager
def sending(
    server: Destination, parameters: str = "", keys: str = "[]", more: str = "", path: str = "/in"
) -> Iterator[Driver]:
    with run(config(f"http://127.0.0.1:{server.port}{path}", parameters, keys, more)) as driver:
        yield driver


@contextmanager
def serving_tls(certificates: Certificates, ca: Path | None = None) -> Iterator[Destination]:
    """`ca`: clients need a certificate of this authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    if ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca)
    destination = Destination()
    destination.context = context
    with destination as https:
        assert isinstance(https, Destination)
        yield https


def only_request(server: Destination) -> Request:
    wait_for(lambda: server.requests)
    (request,) = server.requests
    return request


@pytest.mark.parametrize(
    ("parameters", "kind", "body"),
    [
        ("", "application/x-ndjson", b'{"a":1}\n{"a":2.0}\n'),
        ("json_array true", "application/json", b'[{"a":1}\n,{"a":2.0}\n]'),
        (f"json_array true\n{DENSE}", "application/json", b'[{"a":1},{"a":2.0}]'),
        ("<format>\n@type msgpack\n</format>", "application/x-msgpack",
         b"\x81\xa1a\x01\x81\xa1a\xcb@" + bytes(7)),
        ("<format>\n@type csv\nfields a\n</format>", "text/csv", b'"1"\n"2.0"\n'),
        ("<format>\n@type ltsv\n</format>", "text/tab-separated-values", b"a:1\na:2.0\n"),
        ("<format>\n@type single_value\nmessage_key a\n</format>", "text/plain", b"1\n2.0\n"),
        ("content_type x/y\nheaders {\"content-type\":\"no\"}", "x/y", b'{"a":1}\n{"a":2.0}\n'),
    ],
)  # fmt: skip
def test_a_chunk_is_one_request(server: Destination, parameters: str, kind: str, body: bytes) -> None:
    with sending(server, parameters) as driver:
        driver.emit("t", {"a": 1}, {"a": 2.0})
        request = only_request(server)
        assert (request.method, request.path, request.headers["content-type"]) == ("POST", "/in", kind)
        assert request.body == body
        driver.wait_for(lambda: driver["out_http"].delivered == 2)


def test_placeholders_headers_and_compression(server: Destination) -> None:
    parameters = """
        http_method put
        compress gzip
        headers {"X-Fixed":"f", "user-agent":"mine"}
        headers_from_placeholders {"X-Tag":"${tag}", "X-Host":"h-${host}"}
        <auth>
          username bob
          password pä
        </auth>"""
    with sending(server, parameters, "tag, host", path="/in/${tag[1]}?h=${host}") as driver:
        driver.emit("app.web", {"host": "h\r\nX-Evil: 1", "a": 1})
        request = only_request(server)
        assert request.method == "PUT"
        assert request.path.startswith("/in/web?h=h")
        assert gzip.decompress(request.body) == b'{"host":"h\\r\\nX-Evil: 1","a":1}\n'
        headers = request.headers
        assert "x-evil" not in headers
        assert (headers["x-fixed"], headers["x-tag"], headers["x-host"]) == ("f", "app.web", "h-hX-Evil: 1")
        assert (headers["user-agent"], headers["content-encoding"]) == ("mine", "gzip")
        assert headers["authorization"] == "Basic Ym9iOnDDpA=="


@pytest.mark.parametrize(
    ("parameters", "answers", "requests", "delivered"),
    [
        ("", [(503, b"busy"), (503, b"busy")], 3, 1),
        ("", ["close"], 2, 1),
        ("retryable_response_codes 500,429", [(500, b""), (429, b"")], 3, 1),
        ("", [(404, b"gone")], 1, 0),
        ("", [(301, b"")], 1, 0),
        ("retryable_response_codes 500", [(503, b"")], 1, 0),
    ],
)
def test_what_is_tried_again(
    server: Destination, parameters: str, answers: list[Any], requests: int, delivered: int
) -> None:
    server.answers += answers
    with sending(server, parameters) as driver:
        driver.emit("t", {"a": 1})
        driver.wait_for(lambda: driver["out_http"].delivered + sum(driver["out_http"].rejected.values()))
        assert (len(server.requests), driver["out_http"].delivered) == (requests, delivered)
        assert len({request.body for request in server.requests}) == 1
        assert delivered or answers[0][1].decode() in driver.log


def test_a_rejected_chunk_goes_to_the_secondary(server: Destination, tmp_path: Path) -> None:
    server.answers.append((400, b"no"))
    secondary = f"<secondary>\n@type secondary_file\ndirectory {tmp_path}\n</secondary>"
    with sending(server, more=secondary) as driver:
        driver.emit("t", {"a": 1}, {"a": 2})
        driver.wait_for(lambda: driver["out_http"].by_secondary == 2)
        assert (tmp_path / "dump.bin.0").read_bytes() == b'{"a":1}\n{"a":2}\n'


def test_an_error_response_that_is_no_reason_to_stop(server: Destination) -> None:
    server.answers.append((404, b"gone"))
    with sending(server, "error_response_as_unrecoverable false") as driver:
        driver.emit("t", {"a": 1}, {"a": 2})
        driver.wait_for(lambda: driver["out_http"].lost == {"http_404": 2})
        assert "gone" in driver.log


def test_connections_are_reused_where_that_is_wanted(server: Destination) -> None:
    for parameters, connections in (("reuse_connections true", 1), ("", 3)):
        server.requests.clear()
        with sending(server, parameters) as driver:
            for number in range(1, 4):
                driver.emit("t", {"n": number})
                driver.flush()
                driver.wait_for(lambda number=number: driver["out_http"].delivered == number)
        assert server.connections == connections


def test_a_server_that_does_not_answer_in_time(server: Destination) -> None:
    server.answers.append("hang")
    with sending(server, "read_timeout 1") as driver:
        driver.emit("t", {"a": 1})
        driver.wait_for(lambda: driver["out_http"].delivered == 1)
        assert len(server.requests) == 2
        assert "no answer from" in driver.log


def test_hosts_by_placeholder(server: Destination) -> None:
    endpoint = f"http://${{host}}:{server.port}/in"
    for allowed, delivered in (("allowed_hosts localhost,127.0.0.1", 1), ("allowed_hosts other", 0), ("", 0)):
        with run(config(endpoint, allowed, "host")) as driver:
            driver.emit("t", {"host": "127.0.0.1"})
            driver.wait_for(lambda d=driver: d["out_http"].delivered + sum(d["out_http"].rejected.values()))
            assert driver["out_http"].delivered == delivered
    assert len(server.requests) == 1


def test_a_proxy(server: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy is asked for the whole URL."""
    proxy = f"http://u%40:p@127.0.0.1:{server.port}"
    with run(config("http://nowhere.invalid/in", f"proxy {proxy}")) as driver:
        driver.emit("t", {"a": 1})
        driver.wait_for(lambda: driver["out_http"].delivered == 1)
    request = server.requests.pop()
    assert request.path == "http://nowhere.invalid/in"
    assert request.headers["proxy-authorization"] == "Basic dUA6cA=="
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with sending(server) as driver:
        driver.emit("t", {"a": 1})
        assert only_request(server).path == "/in"


def test_tls(certificates: Certificates) -> None:
    with serving_tls(certificates) as https:
        endpoint = f"https://localhost:{https.port}/in"
        trusted = f"tls_ca_cert_path {certificates.ca}"
        for parameters, delivered in ((trusted, 1), ("tls_verify_mode none", 1), ("", 0)):
            with run(config(endpoint, parameters)) as driver:
                driver.emit("t", {"a": 1})
                driver.wait_for(lambda d=driver: d["out_http"].delivered or d["out_http"].failures)
                assert driver["out_http"].delivered == delivered
                assert delivered or "certificate verify failed" in driver.log
        assert len(https.requests) == 2


def test_a_server_that_wants_a_certificate(certificates: Certificates) -> None:
    with serving_tls(certificates, ca=certificates.ca) as https:
        ours = f"""tls_ca_cert_path {certificates.ca}
            tls_client_cert_path {certificates.client_cert}
            tls_private_key_path {certificates.client_key}"""
        for parameters, delivered in ((ours, 1), (f"tls_ca_cert_path {certificates.ca}", 0)):
            with run(config(f"https://localhost:{https.port}/in", parameters)) as driver:
                driver.emit("t", {"a": 1})
                driver.wait_for(lambda d=driver: d["out_http"].delivered or d["out_http"].failures)
                assert driver["out_http"].delivered == delivered


@pytest.mark.parametrize(
    ("endpoint", "parameters", "message"),
    [
        ("ftp://host/", "", "endpoint"),
        ("http:///path", "", "endpoint"),
        ("http://host:port/", "", "endpoint"),
        ("http://host/", "json_array true\n<format>\n@type csv\nfields a\n</format>", "json_array"),
        ("https://host/", "tls_ca_cert_path /nowhere", "tls_ca_cert_path"),
        ("http://host/", "<auth>\nmethod aws_sigv4\naws_region r\n</auth>", "aws_service"),
        ("http://host/", "http_method get", "http_method"),
    ],
)
def test_wrong_configurations(endpoint: str, parameters: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        run(config(endpoint, parameters))


def test_requests_signed_for_aws(server: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("botocore")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    auth = "<auth>\nmethod aws_sigv4\naws_service es\naws_region eu-west-1\n</auth>"
    with sending(server, auth, path="/in?b=2&a=1") as driver:
        driver.emit("t", {"a": 1})
        request = only_request(server)
    headers = request.headers
    assert headers["x-amz-security-token"] == "token"
    assert headers["x-amz-content-sha256"] == hashlib.sha256(request.body).hexdigest()
    assert headers["authorization"] == signature(request, "AKID", "secret", "eu-west-1", "es")


def signature(request: Request, key_id: str, secret: str, region: str, service: str) -> str:
    """What the server computes of a request (Signature Version 4)."""
    given = request.headers["authorization"]
    signed = re.search(r"SignedHeaders=([^,]+)", given)
    assert signed is not None
    path, _, query = request.path.partition("?")
    canonical = "\n".join(
        [
            request.method,
            path,
            "&".join(sorted(query.split("&"))),
            *(f"{name}:{request.headers[name]}" for name in signed[1].split(";")),
            "",
            signed[1],
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    time = request.headers["x-amz-date"]
    scope = f"{time[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return f"AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={signed[1]}, Signature={key.hex()}"


def test_forwarder_to_forwarder_with_kills_between(tmp_path: Path) -> None:
    """in_http answers once the event is in the file buffer, out_http keeps it until then: nothing is lost."""
    port = free_port()
    receiver = ForwarderProcess(
        tmp_path,
        f"""
<source>
  @type http
  bind 127.0.0.1
  port {port}
</source>
<match t>
  @type file
  path {tmp_path}/got
  append true
  <format>
    @type json
  </format>
  <buffer []>
    flush_interval 0.05
    flush_at_shutdown true
  </buffer>
</match>
""",
        options=("--no-supervisor",),
    )
    endpoint = f"http://127.0.0.1:{port}/t"

    def got() -> set[int]:
        found = tmp_path / "got.log"
        lines = found.read_text().splitlines() if found.exists() else []
        return {json.loads(line)["n"] for line in lines}

    with receiver, run(config(endpoint, "reuse_connections true")) as driver:
        for start in range(0, 300, 100):
            for number in range(start, start + 100):
                driver.emit("t", {"n": number})
                driver.flush()
            driver.wait_for(lambda start=start: driver["out_http"].delivered > start)
            assert receiver.process is not None
            receiver.process.kill()
            receiver.ended()
            driver.wait_for(lambda: driver["out_http"].failures or driver["out_http"].delivered == 300)
            receiver.start()
        driver.wait_for(lambda: driver["out_http"].delivered == 300)
        receiver.wait(lambda: got() == set(range(300)))

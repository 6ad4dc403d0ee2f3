"""Output `s3`: what its parameters do, as a store, a token service and a metadata service see it."""

from __future__ import annotations

import gzip
import json
import shutil
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from re import fullmatch
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from store import KEYS, Bucket, StartStore
from store_proxy import Fault, Proxy, faulty

from forwarder.api.errors import ForwarderError
from forwarder.api.testing import Driver, run

if TYPE_CHECKING:
    from conftest import Certificates, Tools

pytestmark = pytest.mark.filterwarnings("default")  # the server's own
SLOW = pytest.mark.slow
STATIC = f"aws_key_id {KEYS['aws_access_key_id']}\n              aws_sec_key {KEYS['aws_secret_access_key']}"
KEY = "logs/app/20231114_0.gz"


@pytest.fixture(scope="module", params=["moto"])
def endpoint(request: pytest.FixtureRequest, start_store: StartStore) -> Iterator[str]:
    """One server is enough here: it is about what we ask for."""
    with start_store(request.param) as url:
        yield url


@pytest.fixture
def bucket(endpoint: str) -> Bucket:
    return Bucket(endpoint)


@pytest.fixture
def proxy(endpoint: str) -> Iterator[Proxy]:
    with faulty(endpoint) as running:
        yield running


def write(config: str) -> Driver:
    """Writes an event; gives the stopped engine."""
    with run(config) as driver:
        driver.emit("app", {"n": 1})
        driver.flush()
        driver.wait_for(lambda: driver["s3"].delivered or driver["s3"].lost)
    return driver


def put(proxy: Proxy) -> dict[str, str]:
    """The headers of the request that wrote the object."""
    (found,) = [
        headers for (method, _, _), headers in zip(proxy.seen, proxy.headers, strict=True)
        if method == "PUT" and "content-type" in headers
    ]  # fmt: skip
    return found


# ---------------------------------------------------------------- names


@SLOW
@pytest.mark.parametrize(
    ("more", "name"),
    [
        ("index_format %04d", r"logs/app/20231114_0000\.gz"),
        ("index_format %X", r"logs/app/20231114_0\.gz"),
        ("time_slice_format %Y/%m/%d-%H", r"logs/app/2023/11/14-00_0\.gz"),
        ("s3_object_key_format %{path}%{hex_random}\nhex_random_length 8", r"logs/app/[0-9a-f]{8}"),
        ("s3_object_key_format %{uuid_flush}-%{hostname}", r"[0-9a-f-]{14}4[0-9a-f-]{21}-.+"),
        ("s3_object_key_format ${tag}/%Y/%{date_slice}_${chunk_id}", r"app/2023/20231114_[0-9a-f]{32}"),
        ("check_object false", r"logs/app//20231114_\d{6}\.gz"),
        ("s3_object_key_format %{path}x%{nothing}", "logs/app/x"),
    ],
)
def test_names(bucket: Bucket, more: str, name: str) -> None:
    write(bucket.config(more))
    ((key, _),) = bucket.objects().items()
    assert fullmatch(name, key), key


OLD = """
  <match **>
    @type s3
    {account}
    path log
    utc
    buffer_type memory
    time_slice_format %Y%m%d-%H
    {more}
  </match>
"""


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("", '2011-01-02T13:14:15Z\ttest\t{"a":1}'),
        ("include_tag_key true\ninclude_time_key true",
         '2011-01-02T13:14:15Z\ttest\t{"a":1,"tag":"test","time":"2011-01-02T13:14:15Z"}'),
        ("format ltsv", "a:1"),
        ("format json", '{"a":1}'),
        ("format json\ninclude_tag_key true", '{"a":1,"tag":"test"}'),
        ("format json\ninclude_time_key true", '{"a":1,"time":"2011-01-02T13:14:15Z"}'),
    ],
)  # fmt: skip
def test_configurations_of_old(bucket: Bucket, more: str, line: str) -> None:
    """As fluent-plugin-s3's own tests write them."""
    with run(OLD.format(account=bucket.account, more=more)) as driver:
        driver.emit("test", {"a": 1}, time_ns=1_293_974_055 * 10**9)
    objects = bucket.objects()
    assert {key: gzip.decompress(body).decode() for key, body in objects.items()} == {
        "log20110102-13_0.gz": f"{line}\n"
    }


# ---------------------------------------------------------------- what goes with an object


def test_what_the_store_keeps_of_an_object(bucket: Bucket) -> None:
    write(bucket.config(
        'acl public-read\nreduced_redundancy true\nuse_server_side_encryption aws:kms\nssekms_key_id k-1\n'
        'checksum_algorithm SHA256\ns3_metadata {"tag":"${tag}-%{index}"}\nindex_format %02d'
    ))  # fmt: skip
    key = "logs/app/20231114_00.gz"
    found = bucket.client.head_object(Bucket=bucket.name, Key=key, ChecksumMode="ENABLED")
    assert found["StorageClass"] == "REDUCED_REDUNDANCY"
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", "k-1")
    assert found["Metadata"]["tag"] == "app-00"
    assert found["ChecksumSHA256"]
    grants = bucket.client.get_object_acl(Bucket=bucket.name, Key=key)["Grants"]
    assert [each["Permission"] for each in grants if "URI" in each["Grantee"]] == ["READ"]


def test_what_goes_with_the_request(bucket: Bucket, proxy: Proxy) -> None:
    key = "0123456789abcdef0123456789abcdef"
    more = (
        "grant_full_control id=1\ngrant_read id=2\ngrant_read_acp id=3\ngrant_write_acp id=4\n"
        f"sse_customer_algorithm AES256\nsse_customer_key {key}"
        "\nsse_customer_key_md5 5sPNeZGjQqP0C8Lr3K8BlA=="
    )
    text = bucket.config(more).replace(bucket.endpoint, proxy.url)
    with pytest.raises(ForwarderError, match="is not the MD5 of"):
        run(text, start=False)
    write(text.replace("\nsse_customer_key_md5 5sPNeZGjQqP0C8Lr3K8BlA==", ""))
    headers = put(proxy)
    grants = ("full-control", "read", "read-acp", "write-acp")
    assert [headers[f"x-amz-grant-{name}"] for name in grants] == ["id=1", "id=2", "id=3", "id=4"]
    assert headers["x-amz-server-side-encryption-customer-algorithm"] == "AES256"
    # as the SDK of fluent-plugin-s3 sends it: base64 of the key as it stands there
    assert (
        headers["x-amz-server-side-encryption-customer-key"] == "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    )
    md5 = headers["x-amz-server-side-encryption-customer-key-md5"]
    run(f"{text.replace('5sPNeZGjQqP0C8Lr3K8BlA==', md5)}", start=False)


@SLOW
@pytest.mark.parametrize(
    ("more", "sent"),
    [("", False), ("compute_checksums false", False), ("compute_checksums true", True)],
)
def test_checksums_only_where_they_are_wanted(bucket: Bucket, proxy: Proxy, more: str, sent: bool) -> None:
    write(bucket.config(more).replace(bucket.endpoint, proxy.url))
    assert any(name.startswith(("x-amz-checksum", "x-amz-sdk-checksum")) for name in put(proxy)) == sent


@SLOW
@pytest.mark.parametrize(
    ("more", "start"),
    [
        ("signature_version v4\ns3_region eu-x", r"AWS4-HMAC-SHA256 Credential=key/\d{8}/eu-x/s3/.*"),
        ("signature_version s3", r"AWS key:.*"),
        ("", r"AWS4-HMAC-SHA256 Credential=key/\d{8}/us-east-1/s3/.*"),
    ],
)
def test_signatures(bucket: Bucket, proxy: Proxy, more: str, start: str) -> None:
    bucket.create()
    write(bucket.config(more).replace(bucket.endpoint, proxy.url))
    assert fullmatch(start, put(proxy)["authorization"])
    assert list(bucket.objects()) == [KEY]


# ---------------------------------------------------------------- the way to the store


@SLOW
@pytest.mark.parametrize(
    ("more", "arrives"),
    [
        ("", False), ("ssl_ca_bundle {ca}", True), ("ssl_ca_directory {folder}", True),
        ("ssl_ca_directory {folder}\nssl_ca_bundle {ca}", True), ("ssl_verify_peer false", True),
        ("ssl_ca_bundle {wrong}", False),
    ],
)  # fmt: skip
def test_certificates(
    bucket: Bucket, certificates: Certificates, tmp_path: Path, more: str, arrives: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    folder = tmp_path / "authorities"
    folder.mkdir()
    shutil.copy(certificates.ca, folder / "ours.crt")
    (folder / "README").write_text("no certificate")
    more = more.format(ca=certificates.ca, folder=folder, wrong=certificates.cert)
    with faulty(bucket.endpoint, context) as proxy:
        driver = write(bucket.config(more).replace(bucket.endpoint, proxy.url))
    assert (len(bucket.create().objects()), driver["s3"].lost == {}) == (int(arrives), arrives)
    assert arrives or "CERTIFICATE_VERIFY_FAILED" in driver.log


@SLOW
def test_a_proxy(bucket: Bucket, proxy: Proxy) -> None:
    write(bucket.config(f"proxy_uri {proxy.url}"))
    assert list(bucket.objects()) == [KEY]
    assert ("PUT", f"{bucket.endpoint}/{bucket.name}/{KEY}", "200") in proxy.seen


@SLOW
@pytest.mark.parametrize(
    ("more", "place"),
    [
        ("", "{name}.s3.eu-west-1.amazonaws.com:443"),
        ("force_path_style true", "s3.eu-west-1.amazonaws.com:443"),
        ("enable_transfer_acceleration true", "{name}.s3-accelerate.amazonaws.com:443"),
        ("enable_dual_stack true", "{name}.s3.dualstack.eu-west-1.amazonaws.com:443"),
        ("s3_endpoint https://store.example", "{name}.store.example:443"),
        ("s3_endpoint https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com\nforce_path_style true",
         "bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com:443"),
    ],
)  # fmt: skip
def test_where_the_store_is(bucket: Bucket, proxy: Proxy, more: str, place: str) -> None:
    text = bucket.config(f"proxy_uri {proxy.url}\ns3_region eu-west-1\n{more}")
    ours = text.replace("force_path_style true", "", 1).replace(f"s3_endpoint {bucket.endpoint}", "")
    write(ours)
    assert {target for method, target, _ in proxy.seen if method == "CONNECT"} == {
        place.format(name=bucket.name)
    }


@SLOW
def test_a_timeout(bucket: Bucket, proxy: Proxy) -> None:
    proxy.faults = [Fault("slow", "HEAD", times=99)]
    driver = write(bucket.config("request_timeout 0.05").replace(bucket.endpoint, proxy.url))
    assert "Read timeout" in driver.log


# ---------------------------------------------------------------- the bucket


def test_a_bucket_is_not_looked_at(bucket: Bucket, proxy: Proxy) -> None:
    bucket.create()
    more = "check_bucket false\ncheck_object false\ns3_object_key_format x\ncheck_apikey_on_start false"
    write(bucket.config(more).replace(bucket.endpoint, proxy.url))
    assert [(method, target) for method, target, _ in proxy.seen] == [("PUT", f"/{bucket.name}/x")]


@SLOW
def test_a_bucket_in_a_region(bucket: Bucket) -> None:
    write(bucket.config("s3_region eu-west-1"))
    assert bucket.client.get_bucket_location(Bucket=bucket.name)["LocationConstraint"] == "eu-west-1"


def test_lifecycle_rules(bucket: Bucket, proxy: Proxy) -> None:
    rules = "".join(
        f"<bucket_lifecycle_rule>\nid {name}\nprefix {name}/\nexpiration_days {days}\n"
        "</bucket_lifecycle_rule>\n"
        for name, days in (("b", 30), ("a", 7))
    )
    for _ in range(2):
        write(bucket.config(rules).replace(bucket.endpoint, proxy.url))
    found = bucket.client.get_bucket_lifecycle_configuration(Bucket=bucket.name)["Rules"]
    assert [(each["ID"], each["Filter"]["Prefix"], each["Expiration"]["Days"]) for each in found] == [
        ("a", "a/", 7), ("b", "b/", 30),
    ]  # fmt: skip
    # the second start finds them
    assert [method for method, target, _ in proxy.seen if "lifecycle" in target] == ["GET", "PUT", "GET"]


@SLOW
def test_a_late_object_is_told(bucket: Bucket) -> None:
    assert "delayed events were written" in write(bucket.config("warn_for_delay 1d")).log


def test_names_that_may_meet_are_told(bucket: Bucket) -> None:
    assert "add ${chunk_id}" in write(bucket.config("check_object false")).log


@SLOW
@pytest.mark.parametrize("endpoint", ["versitygw"], indirect=True)  # the other one takes any key
def test_a_wrong_key_is_told_at_the_start(bucket: Bucket) -> None:
    with run(bucket.config().replace("aws_sec_key secret", "aws_sec_key wrong")) as driver:
        driver.wait_for(lambda: "cannot use the bucket yet" in driver.log)


# ---------------------------------------------------------------- who we are


def signed_by(proxy: Proxy) -> tuple[str, bool]:
    """Whose key wrote the object, and whether with a session's token."""
    headers = put(proxy)
    return headers["authorization"].partition("Credential=")[2].partition("/")[0], (
        "x-amz-security-token" in headers
    )


@pytest.fixture
def _no_own_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if "metadata" not in request.fixturenames:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def without_keys(bucket: Bucket, proxy: Proxy, more: str) -> str:
    return bucket.create().config(more).replace(bucket.endpoint, proxy.url).replace(STATIC, "")


FILE = "".join(
    f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = x\n"
    for name, key in (("default", "D"), ("p", "P"))
)
PROCESS = json.dumps({"Version": 1, "AccessKeyId": "C", "SecretAccessKey": "c", "SessionToken": "t"})


@SLOW
@pytest.mark.usefixtures("_no_own_keys")
@pytest.mark.parametrize(
    ("more", "who"),
    [
        ("aws_profile p", ("P", False)),
        ("", ("D", False)),
        ("<shared_credentials>\n</shared_credentials>", ("D", False)),
        ("<shared_credentials>\npath {file}\nprofile_name p\n</shared_credentials>", ("P", False)),
        ("aws_credential_process {process} a 'b c'", ("C", True)),
    ],
)
def test_credentials_of_files_and_commands(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, more: str, who: tuple[str, bool]
) -> None:
    for path in (tmp_path / ".aws" / "credentials", tmp_path / "other"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(FILE)
    process = tmp_path / "process"
    process.write_text(f"#!/bin/sh\n[ \"$2\" = 'b c' ] && echo '{PROCESS}'\n")
    process.chmod(0o700)
    write(without_keys(bucket, proxy, more.format(file=tmp_path / "other", process=process)))
    assert signed_by(proxy) == who


class Metadata(BaseHTTPRequestHandler):
    """An instance's metadata service; `refusals`: so many questions fail first."""

    refusals = 0
    questions = 0

    def _any(self) -> None:
        type(self).questions += 1
        body = b""
        if self.path == "/latest/api/token":
            body = b"token"
        elif self.path.endswith("/security-credentials/"):
            body = b"role"
        elif self.path.endswith("/role"):
            body = json.dumps({
                "Code": "Success", "AccessKeyId": "I", "SecretAccessKey": "i", "Token": "t",
                "Expiration": "2099-01-01T00:00:00Z", "LastUpdated": "2020-01-01T00:00:00Z",
                "Type": "AWS-HMAC",
            }).encode()  # fmt: skip
        if type(self).refusals and self.path != "/latest/api/token":
            type(self).refusals -= 1
            self.send_error(500)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = _any  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, type[Metadata]]]:
    handler = type("Handler", (Metadata,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}/")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1], handler
    server.shutdown()
    server.server_close()
    thread.join()


INSTANCE = "ip_address 127.0.0.1\nport {port}\nhttp_open_timeout 1\nhttp_read_timeout 2"


@SLOW
@pytest.mark.usefixtures("_no_own_keys")
@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("aws_iam_retries 2", False),
        ("<instance_profile_credentials>\n{instance}\nretries 2\n</instance_profile_credentials>", False),
        ("<instance_profile_credentials>\n{instance}\nretries 0\n</instance_profile_credentials>", True),
    ],
)
def test_credentials_of_an_instance(
    bucket: Bucket, proxy: Proxy, metadata: tuple[int, type[Metadata]], more: str, told: bool
) -> None:
    """Where the service does not answer at first, a later attempt gets them."""
    port, service = metadata
    service.refusals = 2  # the SDK itself also asks, once
    more = more.format(instance=INSTANCE.format(port=port))
    driver = write(without_keys(bucket, proxy, more))
    assert signed_by(proxy) == ("I", True)
    assert ("Unable to locate credentials" in driver.log) == told


@SLOW
@pytest.mark.usefixtures("_no_own_keys")
def test_credentials_of_a_container(
    bucket: Bucket, proxy: Proxy, metadata: tuple[int, type[Metadata]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{metadata[0]}/role")
    write(without_keys(bucket, proxy, "<instance_profile_credentials>\n</instance_profile_credentials>"))
    assert signed_by(proxy) == ("I", True)


ROLE = "arn:aws:iam::123456789012:role/logs"


@SLOW
@pytest.mark.usefixtures("_no_own_keys")
@pytest.mark.parametrize("way", ["endpoint", "proxy"])
def test_a_role(bucket: Bucket, proxy: Proxy, endpoint: str, way: str) -> None:
    with faulty(endpoint) as service:
        bodies: list[bytes] = []
        service.on_body = bodies.append
        place = {"endpoint": f"sts_endpoint_url {service.url}",
                 "proxy": f"sts_endpoint_url {endpoint}\nsts_http_proxy {service.url}"}  # fmt: skip
        more = f"""<assume_role_credentials>
            role_arn {ROLE}
            role_session_name mine
            policy {{"Version":"2012-10-17"}}
            duration_seconds 900
            external_id x1
            sts_region eu-y
            {place[way]}
        </assume_role_credentials>"""
        text = bucket.create().config(more).replace(bucket.endpoint, proxy.url)
        write(text.replace(f"sts_endpoint_url {proxy.url}", f"sts_endpoint_url {endpoint}"))
        assert signed_by(proxy)[1]
        assert signed_by(proxy)[0].startswith("ASIA")
        (headers,) = service.headers
    assert "Credential=key/" in headers["authorization"]
    assert "/eu-y/sts/" in headers["authorization"]
    asked = dict(part.split("=", 1) for part in bodies[0].decode().split("&"))
    assert {name: asked[name] for name in ("Action", "RoleSessionName", "DurationSeconds", "ExternalId")} == {
        "Action": "AssumeRole", "RoleSessionName": "mine", "DurationSeconds": "900", "ExternalId": "x1",
    }  # fmt: skip
    assert "Policy" in asked


@SLOW
@pytest.mark.usefixtures("_no_own_keys")
def test_a_role_by_a_token(bucket: Bucket, proxy: Proxy, endpoint: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("the-token\n")
    with faulty(endpoint) as service:
        bodies: list[bytes] = []
        service.on_body = bodies.append
        more = f"""<web_identity_credentials>
            role_arn {ROLE}
            role_session_name mine
            web_identity_token_file {token}
            duration_seconds 900
            sts_region eu-y
            sts_endpoint_url {service.url}
        </web_identity_credentials>"""
        write(without_keys(bucket, proxy, more))
        assert signed_by(proxy)[1]
        assert "authorization" not in service.headers[0]
    asked = dict(part.split("=", 1) for part in bodies[0].decode().split("&"))
    assert (asked["Action"], asked["WebIdentityToken"]) == ("AssumeRoleWithWebIdentity", "the-token")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sse_customer_key x", "must be set together"),
        ("aws_key_id x", "must be set together"),
        ("command_parameter -9", "has no command_parameter"),
        ("store_as parquet\n<format>\n@type json\n</format>", "leave out <format>"),
        (
            "store_as parquet\n<compress>\nparquet_compression_codec lzo\n</compress>",
            "unsupported compression codec",
        ),
        ("store_as parquet\n<compress>\nschema_file /none\n</compress>", "needs <format> @type msgpack"),
    ],
)
def test_what_is_refused(line: str, words: str) -> None:
    with pytest.raises(ForwarderError, match=words):
        run(f"<match **>\n@type s3\ns3_bucket b\n{line}\n</match>", start=False)


# ---------------------------------------------------------------- programs


@SLOW
@pytest.mark.parametrize(
    ("more", "suffix", "program"),
    [
        ("store_as gzip_command\ncommand_parameter -1 -n", "gz", "gzip"),
        ("store_as lzma2\ncommand_parameter -q3", "xz", "xz"),
        ("store_as lzo", "lzo", "lzop"),
    ],
)
def test_programs_that_compress(bucket: Bucket, tools: Tools, more: str, suffix: str, program: str) -> None:
    tools.need(program)
    write(bucket.config(more))
    ((key, body),) = bucket.objects().items()
    assert key == f"logs/app/20231114_0.{suffix}"
    output = run(bucket.config(more), start=False).plugin("s3")
    assert b"".join(output.read_archived(key)) == b'{"n":1}\n'
    assert body[:2] in (b"\x1f\x8b", b"\xfd7", b"\x89L")


@SLOW
def test_a_program_that_fails(bucket: Bucket, tools: Tools) -> None:
    tools.need("xz")
    driver = write(bucket.config("store_as lzma2\ncommand_parameter --nonsense"))
    assert driver["s3"].lost
    assert "xz failed" in driver.log

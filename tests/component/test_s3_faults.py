"""Output `s3` and `forwarder replay` before two makers' servers and a proxy that slows, refuses and cuts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore import auth
from botocore.retries.standard import ExponentialBackoff
from store import KEYS, Bucket
from store_proxy import Fault, Proxy, faulty

from forwarder.api.testing import run
from forwarder.cli.main import main

pytestmark = pytest.mark.filterwarnings("default")  # the server's own
KEY = "logs/app/20231114_0.txt"
LINE = b'{"n":1}\n'
SLOW = pytest.mark.slow
UNPATIENT = "store_as text\nrequest_timeout 0.2"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK waits half a second before it tries again."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0)


@pytest.fixture
def proxy(endpoint: str) -> Iterator[Proxy]:
    with faulty(endpoint) as running:
        yield running


@pytest.fixture
def bucket(endpoint: str) -> Bucket:
    """Behind the proxy's back."""
    return Bucket(endpoint).create()


def config(bucket: Bucket, proxy: Proxy, more: str = UNPATIENT, retries: int = 5) -> str:
    text = bucket.config(more).replace(bucket.endpoint, proxy.url)
    return text.replace("retry_max_times 1", f"retry_max_times {retries}")


# the SDK makes three attempts of its own
@pytest.mark.parametrize("attempts", [1, pytest.param(4, marks=SLOW)])
@pytest.mark.parametrize(
    "kind",
    ["SlowDown", "cut", "lost", *(pytest.param(each, marks=SLOW) for each in ("InternalError", "slow"))],
)
def test_an_object_arrives_once(bucket: Bucket, proxy: Proxy, kind: str, attempts: int) -> None:
    proxy.faults = [Fault(kind, times=attempts)]
    with run(config(bucket, proxy)) as driver:
        driver.emit("app", {"n": 1})
        driver.flush()
        driver.wait_for(lambda: driver["s3"].delivered)
        assert (driver["s3"].delivered, driver["s3"].lost) == (1, {})
    assert proxy.kinds.count(kind) >= 1
    assert bucket.objects() == {KEY: LINE}


@SLOW
def test_what_the_store_never_takes_is_counted(bucket: Bucket, proxy: Proxy) -> None:
    proxy.faults = [Fault("SlowDown", times=99)]
    with run(config(bucket, proxy, retries=1)) as driver:
        driver.emit("app", {"n": 1}, {"n": 2})
        driver.flush()
        driver.wait_for(lambda: driver["s3"].lost)
        assert sum(driver["s3"].lost.values()) == 2
        assert "SlowDown" in driver.log
    assert proxy.kinds.count("SlowDown") == 6
    assert bucket.objects() == {}


@SLOW
@pytest.mark.parametrize(
    ("request_", "kind"),
    [("?uploads", "SlowDown"), ("partNumber=2", "SlowDown"), ("partNumber=2", "cut"),
     ("uploadId", "SlowDown"), ("uploadId", "lost")],
)  # fmt: skip
def test_parts(bucket: Bucket, proxy: Proxy, request_: str, kind: str) -> None:
    """The object is there when the last part is, or not at all, and leaves no parts behind."""
    begin = request_ != "partNumber=2"
    proxy.faults = [Fault(kind, "POST" if begin else "PUT", request_, times=4)]
    early: list[Any] = []

    def look(method: str, target: str) -> None:
        if method != "HEAD" and not early and not bucket.objects().keys() <= {KEY}:
            early.append(bucket.objects())

    proxy.on_request = look
    text = config(bucket, proxy, "store_as text\nmultipart_threshold 16m")
    with run(text.replace("flush_interval 1h", "flush_interval 1h\nchunk_limit_size 64m")) as driver:
        driver.emit("app", *({"text": "x" * 1_000_000, "n": n} for n in range(20)))
        driver.flush()
        driver.wait_for(lambda: driver["s3"].delivered, 30)
        assert (driver["s3"].delivered, driver["s3"].lost) == (20, {})
    assert kind in proxy.kinds
    assert not early
    ((key, body),) = bucket.objects().items()
    assert key == KEY
    assert [json.loads(line)["n"] for line in body.splitlines()] == list(range(20))
    assert not bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads")


@SLOW
@pytest.mark.parametrize(
    ("endpoint", "refused"),
    [("moto", True), ("moto", False), ("versitygw", True)],  # the header is signed, and moto does not look
    indirect=["endpoint"],
)
def test_a_store_without_conditional_writes(bucket: Bucket, proxy: Proxy, refused: bool) -> None:
    """Flush threads at the same time do not take the same name."""
    bucket.put(KEY, b"theirs")
    if refused:
        proxy.faults = [Fault("NotImplemented", times=1)]
    else:
        proxy.ignored = ("if-none-match",)
    text = config(bucket, proxy, "store_as text").replace("timekey 1d", "timekey 1d\nflush_thread_count 4")
    with run(text) as driver:
        for n in range(8):
            driver.emit("app", {"n": n})
            driver.flush()
        driver.wait_for(lambda: driver["s3"].delivered == 8)
    objects = bucket.objects()
    assert objects.pop(KEY) == b"theirs"
    assert sorted(objects.values()) == [b'{"n":%d}\n' % n for n in range(8)]


def test_a_store_whose_clock_is_elsewhere(bucket: Bucket, proxy: Proxy) -> None:
    proxy.faults = [Fault("RequestTimeTooSkewed", times=1, clock=3600)]
    with run(config(bucket, proxy)) as driver:
        driver.emit("app", {"n": 1})
        driver.flush()
        driver.wait_for(lambda: driver["s3"].delivered)
        assert "this machine's clock is 60 minutes behind the store's" in driver.log
        assert (driver["s3"].delivered, driver["s3"].lost) == (1, {})
    assert bucket.objects() == {KEY: LINE}


@pytest.mark.parametrize("endpoint", ["versitygw"], indirect=True)  # the other one does not look at times
def test_our_clock_is_wrong(bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    true_now = auth.get_current_datetime
    wrong = True

    def now(*arguments: Any) -> Any:
        return true_now(*arguments) + timedelta(hours=2 if wrong else 0)

    monkeypatch.setattr(auth, "get_current_datetime", now)
    with run(config(bucket, proxy, retries=99)) as driver:
        driver.emit("app", {"n": 1})
        driver.flush()
        driver.wait_for(lambda: "RequestTimeTooSkewed" in driver.log or "403" in driver.log)
        assert not {"200"} & set(proxy.kinds)
        wrong = False
        driver.wait_for(lambda: driver["s3"].delivered)
        assert (driver["s3"].delivered, driver["s3"].lost) == (1, {})
    assert "403" in proxy.kinds
    assert bucket.objects() == {KEY: LINE}


@SLOW
@pytest.mark.parametrize("kind", ["SlowDown", "half", "lost"])
def test_a_replay_goes_on_where_it_was_cut(
    bucket: Bucket, proxy: Proxy, kind: str, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["aws_secret_access_key"])
    lines = 60_000
    bucket.put("logs/1", b"".join(b'%d.5\tapp\t{"n":%d}\n' % (1_700_000_000 + n, n) for n in range(lines)))
    proxy.faults = [Fault(kind, "GET", "logs/1", times=2)]
    words = ["replay", f"s3://{bucket.name}/logs/", "--endpoint", proxy.url, "--path-style"]
    assert main(words) == 0
    out, err = capfd.readouterr()
    assert proxy.kinds.count(kind) == 2
    assert [json.loads(line)["n"] for line in out.splitlines()] == list(range(lines))
    assert f"read {lines}, matched {lines}, delivered {lines}" in err

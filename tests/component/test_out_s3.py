"""`<match> @type s3` with moto's server as the store, over real sockets."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from typing import Any

import pytest
from store import Bucket

from forwarder.api.errors import ForwarderError
from forwarder.api.testing import run

pytestmark = pytest.mark.filterwarnings("default")  # the server's own
LINE = b'{"n":1}\n'


@pytest.fixture
def bucket(endpoint: str) -> Bucket:
    return Bucket(endpoint)


def test_an_object_per_chunk_with_numbers_for_the_next(bucket: Bucket) -> None:
    with run(bucket.config()) as driver:
        for count in (1, 2):
            driver.emit("app", {"n": count})
            driver.flush()
            driver.wait_for(lambda count=count: driver["s3"].delivered == count)
    objects = bucket.objects()
    assert {key: gzip.decompress(body) for key, body in objects.items()} == {
        "logs/app/20231114_0.gz": LINE,
        "logs/app/20231114_1.gz": b'{"n":2}\n',
    }
    assert bucket.get("logs/app/20231114_0.gz")["ContentType"] == "application/x-gzip"


@pytest.mark.parametrize(
    ("store_as", "suffix", "unpack"),
    [("text", "txt", bytes), ("json", "json", bytes), ("gzip_command", "gz", gzip.decompress),
     ("lzma2", "xz", lzma.decompress)],
)  # fmt: skip
def test_forms_of_an_object(
    bucket: Bucket, store_as: str, suffix: str, unpack: Callable[[bytes], bytes]
) -> None:
    with run(bucket.config(f"store_as {store_as}")) as driver:
        driver.emit("app", {"n": 1})
    ((key, body),) = bucket.objects().items()
    assert (key, unpack(body)) == (f"logs/app/20231114_0.{suffix}", LINE)


def test_a_name_never_replaces_another(bucket: Bucket) -> None:
    bucket.client.create_bucket(Bucket=bucket.name)
    bucket.client.put_object(Bucket=bucket.name, Key="fixed", Body=b"theirs")
    with run(bucket.config("s3_object_key_format fixed")) as driver:
        driver.emit("app", {"n": 1})
        driver.flush()
        driver.wait_for(lambda: driver["s3"].lost)
        assert "is there already" in driver.log
    assert bucket.objects() == {"fixed": b"theirs"}


def test_overwrite_replaces(bucket: Bucket) -> None:
    bucket.client.create_bucket(Bucket=bucket.name)
    bucket.client.put_object(Bucket=bucket.name, Key="fixed", Body=b"theirs")
    with run(bucket.config("s3_object_key_format fixed\noverwrite true\nstore_as text")) as driver:
        driver.emit("app", {"n": 1})
    assert bucket.objects() == {"fixed": LINE}


def test_a_retry_finds_the_object_of_the_attempt_before(bucket: Bucket) -> None:
    """The store took the object, but its answer was lost."""
    with run(bucket.config(), start=False) as driver:
        output = driver.plugin("s3")
        output._prepare()
        put = output._client.put_object
        calls = []

        def lost(**arguments: Any) -> Any:
            calls.append(arguments["Key"])
            answer = put(**arguments)
            if len(calls) == 1:
                raise ForwarderError("the answer is lost")
            return answer

        output._client.put_object = lost
        driver.engine.start()
        driver.emit("app", {"n": 1})
        driver.flush()
        driver.wait_for(lambda: driver["s3"].delivered == 1)
    assert calls == ["logs/app/20231114_0.gz"]
    assert list(bucket.objects()) == calls


def test_a_large_chunk_goes_in_parts(bucket: Bucket) -> None:
    with run(bucket.config("store_as text\nmultipart_threshold 16m").replace(
        "flush_interval 1h", "flush_interval 1h\nchunk_limit_size 64m"
    )) as driver:  # fmt: skip
        driver.emit("app", *({"text": "x" * 1_000_000, "n": n} for n in range(20)))
    (key,) = bucket.objects()
    found = bucket.get(key)
    assert found["ETag"].strip('"').endswith("-2")
    assert found["Body"].read().count(b"\n") == 20


def test_what_goes_with_an_object(bucket: Bucket) -> None:
    more = 's3_metadata {"app":"${tag}"}\ntagging a=b'
    with run(bucket.config(more)) as driver:
        driver.emit("app", {"n": 1})
    found = bucket.get("logs/app/20231114_0.gz")
    assert found["Metadata"]["app"] == "app"
    tags = bucket.client.get_object_tagging(Bucket=bucket.name, Key="logs/app/20231114_0.gz")["TagSet"]
    assert tags == [{"Key": "a", "Value": "b"}]


@pytest.mark.parametrize("endpoint", ["moto"], indirect=True)  # the other one has a single class
def test_storage_class(bucket: Bucket) -> None:
    with run(bucket.config("storage_class STANDARD_IA")) as driver:
        driver.emit("app", {"n": 1})
    assert bucket.get("logs/app/20231114_0.gz")["StorageClass"] == "STANDARD_IA"


def test_a_missing_bucket_is_not_made_against_the_will(bucket: Bucket) -> None:
    with run(bucket.config("auto_create_bucket false")) as driver:
        driver.emit("app", {"n": 1})
        driver.flush()
        driver.wait_for(lambda: driver["s3"].lost)
        assert "does not exist" in driver.log


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("store_as tar", "expected one of gzip"),
        ("hex_random_length 17", "from 1 to 16"),
        ("index_format %5d", "index_format"),
        ("s3_object_key_format %{uuid}", "removed"),
        ("s3_endpoint https://s3.eu-west-1.amazonaws.com", "use s3_region"),
        ("s3_endpoint store.example:9000", "expected a URL"),
        ("multipart_threshold 1m", "16m"),
    ],
)
def test_what_is_refused(line: str, words: str) -> None:
    with pytest.raises(ForwarderError, match=words):
        run(f"<match **>\n@type s3\ns3_bucket b\n{line}\n</match>", start=False)

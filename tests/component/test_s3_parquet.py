"""Output `s3` with `store_as parquet`, and the way back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from store import Bucket, StartStore

from forwarder.api.errors import ForwarderError
from forwarder.api.testing import run
from forwarder.cli.main import main

pytestmark = pytest.mark.filterwarnings("default")  # the server's own
T0 = 1_700_000_000_000_000_000


@pytest.fixture(scope="module")
def endpoint(start_store: StartStore) -> Iterator[str]:
    with start_store("moto") as url:
        yield url


@pytest.fixture
def bucket(endpoint: str) -> Bucket:
    return Bucket(endpoint)


def own(bucket: Bucket, more: str = "") -> str:
    """A configuration without <format>."""
    text = bucket.config(f"store_as parquet\n{more}")
    head, _, rest = text.partition("<format>")
    return head + rest.partition("</format>")[2]


def file(bucket: Bucket) -> parquet.ParquetFile:
    ((key, body),) = bucket.objects().items()
    assert key == "logs/app/20231114_0.parquet"
    assert bucket.get(key)["ContentType"] == "application/octet-stream"
    return parquet.ParquetFile(BytesIO(body))


def test_every_event_as_it_is_and_back_again(
    bucket: Bucket, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = "parquet_compression_codec zstd\nparquet_row_group_size 64k\nparquet_page_size 4k"
    config = own(bucket, f"<compress>\n{more}\n</compress>")
    records: list[dict[str, Any]] = [
        {"n": n, "text": 'ä\t"\n\\,', "deep": {"t": [1.5, None, True]}, "big": 1 << 63} for n in range(5000)
    ]
    records.append({})
    with run(config) as driver:
        driver.emit("app", *((T0 + n, record) for n, record in enumerate(records)))
    found = file(bucket)
    assert found.metadata.num_row_groups > 1
    assert found.metadata.row_group(0).column(2).compression == "ZSTD"
    assert {each.name: str(each.type) for each in found.schema_arrow} == {
        "time": "timestamp[ns, tz=UTC]", "tag": "string", "record": "string",
    }  # fmt: skip
    assert found.read(["record"]).to_pylist()[3] == {
        "record": json.dumps(records[3], separators=(",", ":"), ensure_ascii=False)
    }
    written = tmp_path / "written.conf"
    written.write_text(config)
    assert main(["replay", f"s3://{bucket.name}/", "--store", str(written), "--tag", "app"]) == 0
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    times = [each.pop("time") for each in events]
    assert times[:2] == ["2023-11-14T22:13:20.000000000Z", "2023-11-14T22:13:20.000000001Z"]
    assert {each.pop("tag") for each in events} == {"app"}
    assert events == records


AVRO = {
    "type": "record", "name": "line",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"]},
        {"name": "ok", "type": ["boolean", "null"]},
        {"name": "share", "type": ["null", "double"]},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
        {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
        {"name": "list", "type": ["null", {"type": "array", "items": "string"}]},
        {"name": "deep", "type": ["null", {"type": "record", "name": "d", "fields": [
            {"name": "a", "type": ["null", "int"]}]}]},
    ],
}  # fmt: skip
BIGQUERY = [
    {"name": "id", "type": "INTEGER", "mode": "REQUIRED"},
    {"name": "name", "type": "STRING"},
    {"name": "ok", "type": "BOOL"},
    {"name": "share", "type": "FLOAT64"},
    {"name": "stamp", "type": "TIMESTAMP"},
    {"name": "list", "type": "STRING", "mode": "REPEATED"},
    {"name": "deep", "type": "RECORD", "fields": [{"name": "a", "type": "INT64"}]},
]
RECORD = {
    "id": 7, "name": "ä", "ok": True, "share": 0.5, "at": 1_700_000_000_123, "day": 19_675,
    "stamp": "2023-11-14T22:13:20Z", "list": ["x", "y"], "deep": {"a": 1}, "more": "not in the schema",
}  # fmt: skip
WHOLE = {"id": 7, "name": "ä", "ok": True, "share": 0.5, "list": ["x", "y"], "deep": {"a": 1}}


@pytest.mark.parametrize(
    ("kind", "schema", "more"),
    [
        (
            "avro",
            AVRO,
            {"at": datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC), "day": date(2023, 11, 14)},
        ),
        ("bigquery", BIGQUERY, {"stamp": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)}),
    ],
)
def test_the_columns_of_a_schema(
    bucket: Bucket, tmp_path: Path, kind: str, schema: Any, more: dict[str, Any]
) -> None:
    form = {"avro": "msgpack", "bigquery": "jsonl"}[kind]
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    compress = f"<compress>\nschema_type {kind}\nschema_file {path}\nrecord_type {form}\n</compress>"
    config = bucket.config(f"store_as parquet\n{compress}", form=f"@type {form.replace('jsonl', 'json')}")
    with run(config) as driver:
        # one that lacks what the schema requires, and one whose field is of another type
        driver.emit("app", RECORD, {"name": "no id"}, {"id": 8}, {"id": "nine"})
        driver.flush()
        driver.wait_for(lambda: driver["s3"].delivered == 2)
        driver.wait_for(lambda: sum(driver["s3"].rejected.values()) == 2)
        assert "the schema" in driver.log
    rows = [
        row for body in bucket.objects().values() for row in parquet.read_table(BytesIO(body)).to_pylist()
    ]
    assert rows[0] == WHOLE | more
    assert [row["id"] for row in rows] == [7, 8]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("{", "schema_file .*Expecting"),
        ({"type": "string"}, "expected a record"),
        (
            {"type": "record", "fields": [{"name": "x", "type": ["int", "string"]}]},
            "x: a column has one type",
        ),
        (
            {"type": "record", "fields": [{"name": "x", "type": {"type": "map", "values": "int"}}]},
            "the type map",
        ),
        ({"type": "record", "fields": [{"type": "int"}]}, "is no avro schema"),
    ],
)
def test_schemas_that_cannot_be_used(tmp_path: Path, schema: Any, words: str) -> None:
    path = tmp_path / "schema.json"
    path.write_text(schema if isinstance(schema, str) else json.dumps(schema))
    more = (
        f"store_as parquet\n<compress>\nschema_file {path}\n</compress>\n<format>\n@type msgpack\n</format>"
    )
    with pytest.raises(ForwarderError, match=words):
        run(f"<match **>\n@type s3\ns3_bucket b\n{more}\n</match>", start=False)


def test_objects_of_others(bucket: Bucket, capfd: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    table = pyarrow.table({
        "time": pyarrow.array([T0 // 1000, T0 // 1000 + 1_500_000], pyarrow.timestamp("us", "UTC")),
        "tag": ["app", "db"], "n": [1, 2], "blob": [b"\xff", b"x"],
    })  # fmt: skip
    sink = BytesIO()
    parquet.write_table(table, sink)
    bucket.create().put("x/1", sink.getvalue())
    bucket.put("x/2", b"PAR1 that is none")
    words = ["replay", f"s3://{bucket.name}/x/", "--endpoint", bucket.endpoint, "--path-style"]
    assert main(words) == 1
    out, err = capfd.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"n": 1, "blob": "\ufffd", "tag": "app", "time": "2023-11-14T22:13:20.000000000Z"},
        {"n": 2, "blob": "x", "tag": "db", "time": "2023-11-14T22:13:21.500000000Z"},
    ]
    assert "x/2 is broken" in err

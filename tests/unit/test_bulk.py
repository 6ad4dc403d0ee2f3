"""Bulk requests and their answers: `native/src/bulk`, `native/src/bulk_response.rs` as Python sees them."""

from __future__ import annotations

import ctypes
import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder._native import Bulk, BulkEncoder, BulkRequests, parse_bulk_response
from forwarder.api import EventStream

TIME = 1_700_000_000_250_000_000
DAY = 86_400_000_000_000


def chunk(*records: dict[Any, Any], time: int = TIME) -> bytes:
    return bytes(EventStream.from_events((time, record) for record in records))


def encode(options: dict[str, Any], data: Any, **how: Any) -> BulkRequests:
    return BulkEncoder(options).encode(data, **({"tag": "t.a", "index": "ix"} | how))


def pairs(bulk: Bulk) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(action line, document) of every item; the body must be one JSON text a line."""
    body = bulk.body
    assert body.endswith(b"\n")
    lines = [json.loads(line, parse_constant=pytest.fail) for line in body.decode().split("\n")[:-1]]
    assert len(lines) == 2 * len(bulk)
    return list(zip(lines[::2], lines[1::2], strict=True))


def only(requests: BulkRequests) -> Bulk:
    (bulk,) = requests.bulks
    return bulk


TEXTS = st.text(max_size=8) | st.sampled_from(["@timestamp", "tag", "id", "gone", "t", "sub"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
    | st.binary(max_size=6)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.dictionaries(TEXTS, VALUES, max_size=6)
TIMES = st.integers(0, 2**32 * 10**9 - 1)

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "logstash_format": st.booleans(),
        "include_timestamp": st.booleans(),
        "tag_key": st.sampled_from(["tag", "t"]),
        "chunk_id_key": st.just("cid"),
        "remove_keys": st.lists(st.sampled_from(["gone", "tag", "id"]), max_size=2),
        "id_key": st.sampled_from(["id", "$.sub.id"]),
        "deterministic_id": st.booleans(),
    },
)


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def model(
    options: dict[str, Any], time: int, record: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """What follows the action, and the document; None for an event with an id that is none."""
    document = dict(record)
    meta: dict[str, Any] = {"_index": "ix"}
    at = datetime.fromtimestamp(time // 10**9, UTC)
    if "chunk_id_key" in options:
        document["cid"] = "00ff"
    if options.get("logstash_format") or options.get("include_timestamp"):
        local = at.astimezone().isoformat()
        document["@timestamp"] = f"{local[:19]}.{time % 10**9:09}{local[19:]}"
    if "tag_key" in options:
        document[options["tag_key"]] = "t.a"
    if options.get("logstash_format"):
        meta["_index"] += f"{at:%Y.%m.%d}"
    identity: Any = None
    if options.get("id_key") == "id":
        identity = document.get("id")
    elif "id_key" in options and isinstance(document.get("sub"), dict):
        identity = document["sub"].get("id")
    if identity is not None and identity is not False:
        if isinstance(identity, list | dict) or identity in ("", b""):
            return None
        if isinstance(identity, float) and not math.isfinite(identity):
            return None
        meta["_id"] = plain(identity)
    elif options.get("deterministic_id"):
        meta["_id"] = ...
    for key in options.get("remove_keys", ()):
        document.pop(key, None)
    return meta, plain(document)


class TestModel:
    """Every document as a model in Python has it."""

    @given(OPTIONS, st.lists(st.tuples(TIMES, RECORDS), max_size=5))
    @settings(max_examples=80, deadline=None)
    def test_documents(self, options: dict[str, Any], events: list[tuple[int, dict[str, Any]]]) -> None:
        if options.get("logstash_format") or options.get("include_timestamp"):
            for _, record in events:
                record.pop("@timestamp", None)  # whose texts would have to be read as times
        modelled = [model(options, time, record) for time, record in events]
        expected = [item for item in modelled if item is not None]
        stream = EventStream.from_events(events)
        requests = encode(options, bytes(stream), chunk_id=b"\x00\xff")
        found = [item for bulk in requests.bulks for item in pairs(bulk)]
        for (action, document), (meta, wanted) in zip(found, expected, strict=True):
            if meta.get("_id") is ...:
                meta["_id"] = action["index"]["_id"]
                assert len(meta["_id"]) == 22
            assert action == {"index": meta}
            assert document == wanted
        assert sum(len(stream) for _, stream in requests.refused) == len(events) - len(expected)
        assert not requests.unreadable_bytes

    @given(st.lists(st.binary(max_size=40), max_size=4), OPTIONS)
    @settings(max_examples=60, deadline=None)
    def test_any_bytes_give_whole_lines(self, blocks: list[bytes], options: dict[str, Any]) -> None:
        data = [chunk({"a": 1}) + block for block in blocks]
        requests = encode(options, data)
        for bulk in requests.bulks:
            pairs(bulk)
        entries = sum(bulk.entries(range(len(bulk))).nbytes for bulk in requests.bulks)
        entries += sum(stream.nbytes for _, stream in requests.refused)
        assert entries + requests.unreadable_bytes == sum(map(len, data))

    @given(st.lists(RECORDS, min_size=1, max_size=8), st.integers(0, 600))
    @settings(max_examples=40, deadline=None)
    def test_bodies_keep_to_the_limit(self, records: list[dict[str, Any]], limit: int) -> None:
        whole = only(encode({}, chunk(*records)))
        parts = encode({}, chunk(*records), limit_bytes=limit).bulks
        assert b"".join(part.body for part in parts) == whole.body
        assert all(part.nbytes <= limit or len(part) == 1 for part in parts)
        assert b"".join(bytes(part.entries(range(len(part)))) for part in parts) == chunk(*records)


class TestRequests:
    def test_nothing_gives_no_request(self) -> None:
        for data in (b"", [], [b""]):
            assert encode({}, data).bulks == []

    def test_data_in_several_forms(self) -> None:
        one, two = chunk({"n": 1}), chunk({"n": 2})
        whole = one + two
        forms = (whole, bytearray(whole), memoryview(whole), [one, two], (one, bytearray(two)))
        bodies = {only(encode({}, data)).body for data in forms}
        assert len(bodies) == 1

    def test_a_request_can_be_sent_without_a_copy(self) -> None:
        bulk = only(encode({}, chunk({"n": 1})))
        with memoryview(bulk) as view:
            assert view.readonly
            assert bytes(view) == bulk.body
            assert view.nbytes == bulk.nbytes == len(bulk.body)
        with pytest.raises((BufferError, TypeError)):
            (ctypes.c_char * bulk.nbytes).from_buffer(bulk)

    def test_items_lead_back_to_their_events(self) -> None:
        records = [{"n": number} for number in range(7)]
        data = [chunk(*records[:3]), chunk(), chunk(*records[3:])]
        bulk = only(encode({"deterministic_id": True}, data, chunk_id=b"c"))
        assert [record for _, record in bulk.entries([5, 0, 2])] == [records[5], records[0], records[2]]
        part = bulk.only([4, 1])
        assert pairs(part) == [pairs(bulk)[4], pairs(bulk)[1]]
        assert [record for _, record in part.entries([0])] == [records[4]]
        assert pairs(part.only([1])) == [pairs(bulk)[1]]
        for wrong in (bulk.only, bulk.entries):
            with pytest.raises(IndexError, match="item 7 of a request with 7 items"):
                wrong([7])

    def test_what_is_left_keeps_its_ids(self) -> None:
        records = [{"n": number % 3} for number in range(9)]
        encoder = BulkEncoder({"deterministic_id": True})
        requests = encoder.encode(chunk(*records), tag="t.a", index="ix", chunk_id=b"c", limit_bytes=200)
        left = [requests.bulks[-1].only([0])]
        again = encoder.encode(bytes(requests.with_equals(left)), tag="t.a", index="ix", chunk_id=b"c")
        wanted = [item for bulk in requests.bulks for item in pairs(bulk)]
        number = pairs(left[0])[0][1]["n"]
        assert pairs(only(again)) == [item for item in wanted if item[1]["n"] == number]

    def test_unusual_events_are_refused_by_reason(self) -> None:
        records = [{"id": "a"}, {}, {"id": []}, {"id": None}]
        requests = encode({"write_operation": "create", "id_key": "id"}, chunk(*records))
        refused = {reason: [record for _, record in stream] for reason, stream in requests.refused}
        assert refused == {"missing_id": [{}, {"id": None}], "bad_id": [{"id": []}]}
        assert [document for _, document in pairs(only(requests))] == [{"id": "a"}]

    def test_fields_that_are_no_time(self) -> None:
        options = {"logstash_format": True, "time_key": "t", "time_key_format": "%Y %z"}
        requests = encode(options, chunk({"t": "x"}, {"t": "2020 +0000"}))
        assert [record for _, record in requests.time_errors] == [
            {"tag": "t.a", "time": 1_700_000_000.25, "format": "%Y %z", "value": "x"}
        ]
        assert [meta["index"]["_index"] for meta, _ in pairs(only(requests))] == [
            "ix2023.11.14",
            "ix2020.01.01",
        ]

    def test_a_new_day_a_new_index(self) -> None:
        data = [chunk({"n": day}, time=TIME + day * DAY) for day in range(3)]
        bulk = only(encode({"logstash_format": True}, data, index="Log-", date_format="%m.%d"))
        assert [meta["index"]["_index"] for meta, _ in pairs(bulk)] == ["log-11.14", "log-11.15", "log-11.16"]
        bulks = encode({"logstash_format": True, "include_index_in_url": True}, data, index="l-").bulks
        assert [bulk.index for bulk in bulks] == ["l-2023.11.14", "l-2023.11.15", "l-2023.11.16"]
        assert [meta for bulk in bulks for meta, _ in pairs(bulk)] == [{"index": {}}] * 3

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"nonsense": 1}, "unknown option"),
            ({"write_operation": "delete"}, "unknown write_operation"),
            ({"id_key": "$['a"}, "are missing after"),
            ({"time_key_format": "%!"}, "%!"),
        ],
    )
    def test_options_that_are_none(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            BulkEncoder(options)
        with pytest.raises(TypeError):
            encode({}, 5)
        with pytest.raises(TypeError):
            encode({}, [5])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ERRORS = st.fixed_dictionaries(
    {"type": st.sampled_from(["a_exception", "b_exception", 'c\n"é']), "reason": st.text(max_size=20)},
    optional={"index": JSON, "root_cause": JSON},
)
ITEMS = st.tuples(
    st.sampled_from(["index", "create", "update"]),
    st.sampled_from([200, 201]) | st.just(0),
    st.sampled_from([400, 409, 429, 503]),
    ERRORS,
)


class TestAnswers:
    @given(st.lists(ITEMS, max_size=8), st.booleans(), st.dictionaries(st.text(max_size=5), JSON, max_size=2))
    @settings(max_examples=80, deadline=None)
    def test_as_a_model(self, items: list[Any], late: bool, more: dict[str, Any]) -> None:
        answer: dict[str, Any] = {key: value for key, value in more.items() if key not in ("errors", "items")}
        listed = []
        expected: dict[tuple[int, str], list[int]] = {}
        duplicates = 0
        for number, (action, good, bad, error) in enumerate(items):
            listed.append({action: {"_id": "1", "status": good} if good else {"error": error, "status": bad}})
            if not good and action == "create" and bad == 409:
                duplicates += 1
            elif not good:
                expected.setdefault((bad, error["type"]), []).append(number)
        if late:
            answer["items"] = listed
        answer["errors"] = True
        answer.setdefault("items", listed)
        outcome = parse_bulk_response(json.dumps(answer).encode(), len(items))
        assert outcome.duplicates == duplicates
        found = {
            (status, kind): numbers for status, kind, _, field, numbers in outcome.failures if field is None
        }
        assert found == expected
        for _, _, reason, _, numbers in outcome.failures:
            assert reason == items[numbers[0]][3]["reason"]
        with pytest.raises(ValueError, match=f"{len(items)} items to a request of {len(items) + 1}"):
            parse_bulk_response(json.dumps(answer, ensure_ascii=False).encode(), len(items) + 1)

    @given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
    @settings(max_examples=60, deadline=None)
    def test_what_is_no_answer_is_named(self, body: bytes) -> None:
        with pytest.raises(ValueError, match="bulk answer"):
            parse_bulk_response(body, 1)

    def test_many_equal_rejections_are_one_group(self) -> None:
        item = {
            "index": {"status": 400, "error": {"type": "m", "reason": "failed to parse field [a] of 'x'"}}
        }
        body = json.dumps({"took": 3, "errors": True, "items": [item] * 5000}).encode()
        outcome = parse_bulk_response(body, 5000)
        assert outcome.took_ms == 3
        assert outcome.failures == [(400, "m", "failed to parse field [a] of 'x'", "a", list(range(5000)))]
        assert parse_bulk_response(bytearray(body), 5000).failures == outcome.failures

"""Filter `record_transformer` through configuration text."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from forwarder.api import ConfigError
from forwarder.api.testing import Driver, run

RECORD = {"a": "s", "n": 5, "o": {"k": "deep", "l": [1, "x"]}, "b": True, "z": None}


def driver(parameters: str, record: str = "") -> Driver:
    return run(
        f"""
        <filter **>
          @type record_transformer
          {parameters}
          <record>
            {record}
          </record>
        </filter>
        <match **>
          @type test
          @id good
        </match>
        <label @ERROR>
          <match **>
            @type test
            @id bad
          </match>
        </label>
        """
    )


@pytest.mark.parametrize(
    ("parameters", "record", "expected"),
    [
        ("", "", RECORD),
        ("", "new v\na changed", {**RECORD, "a": "changed", "new": "v"}),
        ("", 'x ${record["a"]}\ny ${record["n"]}', {**RECORD, "x": "s", "y": 5}),
        ("", "y ${record['a']}\nw __HOSTNAME__\nv ${nothing}", {**RECORD, "y": None, "w": None, "v": None}),
        ("", 'y ${record["o"]["k"]}\nz ${record["q"]}', {**RECORD, "z": None, "y": None}),
        ("", 'm p-${record["a"]}-${record["n"]}-${record["q"]}', {**RECORD, "m": "p-s-5-"}),
        ("", 'n {"k":"${tag}","l":["${record[\\"n\\"]}", 1]}', {**RECORD, "n": {"k": "t.x.y", "l": [5, 1]}}),
        (
            "auto_typecast false",
            'x ${record["n"]}\ny ${record["b"]}\nz ${record["z"]}',
            {**RECORD, "x": "5", "y": "true", "z": ""},
        ),
        (
            "",
            "p ${tag_parts[1]}\nq ${tag_parts[-1]}\nr ${tag_prefix[1]}\ns ${tag_suffix[1]}"
            "\nu ${tag_parts[9]}",
            {**RECORD, "p": "x", "q": "y", "r": "t.x", "s": "x.y", "u": None},
        ),
        ("", "${tag}_k v", {**RECORD, "t.x.y_k": "v"}),
        ("renew_record true", 'x ${record["a"]}', {"x": "s"}),
        ("renew_record true\nkeep_keys n,a,q", "a c\nx 1", {"n": 5, "a": "c", "x": "1"}),
        ("remove_keys a,$.o.l,q", "", {"n": 5, "o": {"k": "deep"}, "b": True, "z": None}),
        ("remove_keys a,n,z", 'b ${record["a"]}', {"o": RECORD["o"], "b": "s"}),
        ("remove_keys a,x", 'a 1\nx 2\ny ${record["a"]}', {"y": "s", **{k: RECORD[k] for k in "nobz"}}),
        (
            "enable_ruby true",
            'x ${record["o"]["l"][1]}\ny ${record.dig("o", "k")}\nt ${time.to_i}\nw <${record["a"]}>',
            {**RECORD, "x": "x", "y": "deep", "t": 1_700_000_000, "w": "<s>"},
        ),
        (
            "enable_ruby true",
            "e ${record['n'] > 4 ? record['a'].upcase : {'k' => 1}}\nf ${tag}/${{1 => 'one'}[1]}"
            '\ng a\\tb [${record["n"] + 1}]\nk${1+1} v\nz ${nil}',
            {**RECORD, "e": "S", "f": "t.x.y/one", "g": "a\tb [6]", "k2": "v"},
        ),
        (
            "enable_ruby true\nauto_typecast false",
            'x ${record["n"]}\ny ${record["o"]["l"]}\nw ${record["q"]}',
            {**RECORD, "x": "5", "y": '[1, "x"]', "w": ""},
        ),
        ("", "h ${hostname}", {**RECORD, "h": socket.gethostname()}),
    ],
)
def test_records(parameters: str, record: str, expected: dict[str, Any]) -> None:
    with driver(parameters, record) as engine:
        engine.emit("t.x.y", RECORD, time_ns=1_700_000_000_000_000_000)
        assert engine.records() == [expected]


def test_what_is_set_keeps_its_place_and_new_fields_follow() -> None:
    with driver("", "b 1\nnew 2\na 3") as engine:
        engine.emit("t", {"a": 0, "k": 0, "b": 0})
        [record] = engine.records()
        assert list(record.items()) == [("a", "3"), ("k", 0), ("b", "1"), ("new", "2")]


def test_the_time_comes_from_a_field() -> None:
    with driver("renew_time_key ts\nremove_keys ts") as engine:
        for value in (1_600_000_000, "1600000001.5", None):
            engine.emit("t", {"ts": value})
        engine.emit("t", {"k": 1}, time_ns=7_000_000_000)
        engine.emit("t", {"ts": [1]}, {"ts": True})
        times = [event.time_ns for event in engine.events("good")]
        assert times == [1_600_000_000_000_000_000, 1_600_000_001_500_000_000, 0, 7_000_000_000]
        assert engine.records("good") == [{}, {}, {}, {"k": 1}]
        assert engine.records("bad") == [{"ts": [1]}, {"ts": True}]


def test_an_event_for_which_an_expression_raises_goes_to_error() -> None:
    with driver("enable_ruby true", 'x ${record["o"]["k"]}\ny a-${record["a"] + "b"}') as engine:
        engine.emit("t", {"o": {"k": 1}, "a": "z"}, {"a": "z"}, {"o": {}, "a": 5}, {"o": {}, "a": ""})
        assert [record["y"] for record in engine.records("good")] == ["a-zb", "a-b"]
        assert engine.records("bad") == [{"a": "z"}, {"o": {}, "a": 5}]
        assert "undefined method `[]' for nil:NilClass" in engine.log
        assert "no such field" not in engine.log  # nil is an answer there


def test_time_and_several_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    with driver("", "t ${time}\n</record>\n<record>\nu 1") as engine:
        engine.emit("t", {})
        assert engine.records() == [{"t": "2023-11-14 22:13:20 +0000", "u": "1"}]


def test_unknown_placeholders_are_named() -> None:
    with driver("", "x ${nothing}") as engine:
        assert "${nothing}" in engine.log


@pytest.mark.parametrize(
    ("parameters", "record", "mention"),
    [
        ("keep_keys a", "", "renew_record"),
        ("remove_keys $.a[", "", "$.a["),
        ("enable_ruby true", 'x ${record["a"].crypt("x")}', 'record["a"].crypt("x")'),
        ("enable_ruby true", 'x ${record["a"].crypt("x")}', "elasticsearch_genid"),
        ("enable_ruby true", "a 1\nx ${Time.parse(tag)}", "test.conf:7:1"),
        ("enable_ruby true", "x v-${tag.map(&:to_s)}-w", "blocks cannot run"),
        ("enable_ruby true", "x ${tag", "x: expected `}`"),
        ("enable_ruby true", 'x {"k":"${nothing}"}', "nothing stands for nothing"),
    ],
)
def test_refused(parameters: str, record: str, mention: str) -> None:
    with pytest.raises(ConfigError) as refused:
        driver(parameters, record)
    assert mention in str(refused.value)

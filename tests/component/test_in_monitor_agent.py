"""`@type monitor_agent` and the monitors of fluent-plugin-prometheus: Fluentd's names for our books."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from forwarder import __version__
from forwarder.api.exposition import families
from forwarder.api.testing import Capture, Driver, run
from forwarder.config import InvalidConfiguration
from tests.component.test_in_prometheus import SOURCE, scrape

# the shape of the configuration in Fluentd's own test, to compare the order of plugins
CONFIG = """
<source>
  @type sample
  @id sample
  tag t
  rate 0
</source>
<source>
  @type monitor_agent
  @id monitor
  port 0
  bind 127.0.0.1
  OPTIONS
</source>
<filter>
  @type stdout
  @id filter
</filter>
<match t>
  @type relabel
  @id relabel
  @label @test
</match>
<match m>
  @type test
  @id top
</match>
<label @test>
  <match **>
    @type test
    @id buffered
    api_key sesame
    <buffer time>
      timekey 60
      timekey_wait 0
      total_limit_size 1000
      flush_at_shutdown true
      retry_wait 3600
    </buffer>
  </match>
</label>
<label @copy>
  <match **>
    @type copy
    @id copy
    <store>
      @type test
      @id store_1
    </store>
    <store>
      @type test
      @id store_2
    </store>
  </match>
</label>
"""
SLOT = 1_700_000_040
COMMON = {"plugin_id", "plugin_category", "type", "output_plugin", "retry_count", "emit_records", "emit_size"}
OUTPUT = COMMON | {
    "emit_count", "write_count", "write_secondary_count", "rollback_count", "slow_flush_count",
    "flush_time_count", "drop_oldest_chunk_count",
}  # fmt: skip
BUFFERED = OUTPUT | {
    "buffer_queue_length", "buffer_timekeys", "buffer_total_queued_size", "buffer_stage_length",
    "buffer_stage_byte_size", "buffer_queue_byte_size", "buffer_available_buffer_space_ratios",
    "buffer_oldest_timekey", "buffer_newest_timekey",
}  # fmt: skip


def start(options: str = "") -> Driver:
    return run(CONFIG.replace("OPTIONS", options))


def get(driver: Driver, path: str) -> tuple[int, str, str]:
    url = f"http://127.0.0.1:{driver.plugin('monitor').bound_port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.headers["Content-Type"], response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def plugins(driver: Driver, query: str = "") -> list[dict[str, Any]]:
    status, content_type, body = get(driver, "/api/plugins.json" + query)
    assert (status, content_type) == (200, "application/json")
    found: list[dict[str, Any]] = json.loads(body)["plugins"]
    return found


def test_plugins_json_has_fluentds_keys_and_order() -> None:
    with start() as driver:
        driver.emit("t", {"a": 1}, {"a": 2}, time_ns=SLOT * 10**9)
        infos = plugins(driver)
        assert [info["plugin_id"] for info in infos] == [
            "sample", "monitor", "relabel", "top", "filter", "buffered", "copy", "store_1", "store_2"
        ]  # fmt: skip
        by_id = {info["plugin_id"]: info for info in infos}
        assert by_id["sample"] == {
            "plugin_id": "sample", "plugin_category": "input", "type": "sample", "output_plugin": False,
            "retry_count": None, "emit_records": 0, "emit_size": 0,
        }  # fmt: skip
        assert by_id["filter"]["plugin_category"] == "filter"
        assert by_id["filter"]["emit_records"] == 2
        assert set(by_id["filter"]) == COMMON
        assert set(by_id["relabel"]) == OUTPUT
        assert set(by_id["copy"]) == {"plugin_id", "plugin_category", "type", "output_plugin", "retry_count"}
        assert set(by_id["buffered"]) == BUFFERED
        size = driver["buffered"].buffer.size_bytes
        assert size > 10
        assert by_id["buffered"] == {
            "plugin_id": "buffered", "plugin_category": "output", "type": "test", "output_plugin": True,
            "retry_count": 0, "emit_records": 2, "emit_size": 0, "emit_count": 1, "write_count": 0,
            "write_secondary_count": 0, "rollback_count": 0, "slow_flush_count": 0, "flush_time_count": 0,
            "drop_oldest_chunk_count": 0, "buffer_queue_length": 0, "buffer_timekeys": [SLOT],
            "buffer_total_queued_size": size, "buffer_stage_length": 1, "buffer_stage_byte_size": size,
            "buffer_queue_byte_size": 0, "buffer_oldest_timekey": SLOT, "buffer_newest_timekey": SLOT,
            "buffer_available_buffer_space_ratios": round(100 - size / 10, 1),
        }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("?id=top", ["top"]),
        ("?@id=buffered", ["buffered"]),
        ("?%40id=buffered", ["buffered"]),
        ("?id=none", []),
        ("?type=test", ["top", "buffered", "store_1", "store_2"]),
        ("?@type=relabel", ["relabel"]),
        ("?tag=t", ["relabel"]),
        ("?tag=m", ["top"]),
        ("?tag=nobody", []),
        ("?with_config=yes&with_retry=yes&debug=1&id=top", ["top"]),  # the section decides, as in Fluentd
    ],
)
def test_a_query_chooses(query: str, ids: list[str]) -> None:
    with start() as driver:
        infos = plugins(driver, query)
        assert [info["plugin_id"] for info in infos] == ids
        assert not any({"config", "retry", "instance_variables"} & set(info) for info in infos)


def test_sizes_are_counted_where_they_are_asked_for() -> None:
    with run("<system>\nenable_size_metrics true\n</system>\n" + CONFIG.replace("OPTIONS", "")) as driver:
        driver.emit("t", {"a": 1}, {"a": 2}, time_ns=SLOT * 10**9)
        size = 2 * len(b"\x92" + bytes(10) + b"\x81\xa1a\x01")  # [EventTime, {"a": 1}]
        sizes = {info["plugin_id"]: info.get("emit_size") for info in plugins(driver)}
        assert sizes["sample"] == 0
        assert {sizes["filter"], sizes["relabel"], sizes["buffered"]} == {size}
        (family,) = [
            family for family in families(driver.metrics()) if family.name == "forwarder_event_bytes_total"
        ]
        shown = {sample.labels["plugin_id"]: sample.value for sample in family.samples}
        assert (shown["sample"], shown["filter"]) == (0, size)
    with start() as driver:
        assert "forwarder_event_bytes_total" not in {family.name for family in families(driver.metrics())}


def test_what_inputs_emit_is_weighed() -> None:
    text = "<source>\n@type sample\ntag t\n</source>\n<match **>\n@type test\n</match>"
    with run("<system>\nenable_size_metrics true\n</system>\n" + text) as driver:
        driver.wait_for_events(1)
        driver.wait_for(lambda: driver["in_sample"].emit_bytes)
        driver.stop()
        assert driver["in_sample"].emit_bytes == driver["out_test"].emit_bytes


def test_config_without_secrets() -> None:
    with start("include_config true") as driver:
        (info,) = plugins(driver, "?id=buffered")
        assert info["config"] == {"@type": "test", "@id": "buffered", "api_key": "xxxxxx"}
        assert "sesame" not in get(driver, "/api/plugins.json")[2]


def test_retry() -> None:
    with start("include_retry true") as driver:
        assert plugins(driver, "?id=buffered")[0]["retry"] == {}
        assert "retry" not in plugins(driver, "?id=sample")[0]
        output: Capture = driver.plugin("buffered")
        output.fail_with = lambda _: OSError("down")
        driver.emit("t", {"a": 1})
        driver.flush()
        driver.wait_for(lambda: driver["buffered"].failures == 1)
        (info,) = plugins(driver, "?id=buffered")
        assert (info["retry_count"], info["rollback_count"], info["buffer_queue_length"]) == (1, 1, 1)
        assert info["retry"]["steps"] == 0
        assert info["retry"]["start"] < info["retry"]["next_time"]
        output.fail_with = lambda _: None


def test_debug_and_instance_variables() -> None:
    with start("include_debug_info true") as driver:
        (info,) = plugins(driver, "?id=buffered&with_ivars=id,num_errors,nothing")
        assert info["instance_variables"] == {"id": "buffered", "num_errors": 0}
        (info,) = plugins(driver, "?id=monitor&with_ivars=port,bind,include_debug_info,include_config")
        assert info["instance_variables"] == {
            "port": 0, "bind": "127.0.0.1", "include_debug_info": True, "include_config": False
        }  # fmt: skip
        _, _, body = get(driver, "/api/plugins.json?id=buffered&debug=1")
        assert body.startswith('{\n  "plugins": [\n    {\n')
        variables = json.loads(body)["plugins"][0]["instance_variables"]
        assert (variables["api_key"], variables["write_count"]) == ("xxxxxx", 0)


def test_ltsv_config_and_not_found() -> None:
    with start("include_config true") as driver:
        driver.emit("t", {"a": 1}, time_ns=SLOT * 10**9)
        status, content_type, body = get(driver, "/api/plugins")
        assert (status, content_type.partition(";")[0], body.count("\n")) == (200, "text/plain", 9)
        rows = [dict(cell.split(":", 1) for cell in line.split("\t")) for line in body.splitlines()]
        assert rows[0] == {
            "plugin_id": "sample", "plugin_category": "input", "type": "sample", "output_plugin": "false",
            "retry_count": "", "emit_records": "0", "emit_size": "0",
        }  # fmt: skip
        assert rows[5]["buffer_timekeys"] == str(SLOT)
        driver.engine.process = {"config_path": "/etc/f.conf", "plugin_dirs": ["a", "b"], "pid_file": None}
        assert json.loads(get(driver, "/api/config.json")[2]) == {
            "pid": os.getpid(), "ppid": os.getppid(), "version": __version__,
            "config_path": "/etc/f.conf", "plugin_dirs": ["a", "b"], "pid_file": None,
        }  # fmt: skip
        assert get(driver, "/api/config")[2].endswith("config_path:/etc/f.conf\tplugin_dirs:a,b\tpid_file:\n")
        assert get(driver, "/api/plugins.json/not_found") == (
            404, "application/json", '{"message":"Not found"}'
        )  # fmt: skip


def test_events() -> None:
    with start("tag m\n  emit_interval 0.05") as driver:
        events = driver.wait_for_events(9, "top")[:9]
        assert [event.record["plugin_id"] for event in events][:2] == ["sample", "monitor"]
        assert len({event.time_ns for event in events}) == 1
        assert set(events[0].record) == COMMON


@pytest.mark.parametrize(
    ("line", "message"), [("port 65536", "expected 0 to 65535"), ("emit_interval 0", "more than 0")]
)
def test_wrong_configuration(line: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        run(f"<source>\n@type monitor_agent\n{line}\n</source>", start=False)


MONITORS = """
<source>
  @type prometheus_monitor
  <labels>
    host ${hostname}
    worker w${worker_id}
  </labels>
</source>
<source>
  @type prometheus_output_monitor
  gauge_all GAUGE
  interval 10
  <labels>
    host fixed
  </labels>
</source>
<match **>
  @type test
  <buffer time>
    timekey 60
    retry_wait 3600
  </buffer>
</match>
"""


@pytest.mark.parametrize("gauge_all", [True, False])
def test_the_names_of_fluent_plugin_prometheus(gauge_all: bool) -> None:
    with run(SOURCE + MONITORS.replace("GAUGE", str(gauge_all).lower())) as driver:
        driver.plugin("out_test").fail_with = lambda _: OSError("down")
        driver.emit("t", {"a": 1}, {"a": 2}, time_ns=SLOT * 10**9)
        driver.flush()
        driver.wait_for(lambda: driver["out_test"].failures)
        page = scrape(driver)
        labels = {"plugin_id": "out_test", "type": "test", "host": "fixed"}
        found = {
            name.removeprefix("fluentd_output_status_"): value
            for (name, own), value in page.numbers.items()
            if own == frozenset(labels.items())
        }
        size = driver["out_test"].buffer.size_bytes
        flush_time = found.pop("flush_time_count")
        assert flush_time >= 0
        assert found.pop("buffer_available_space_ratio") == pytest.approx(100, abs=1)
        assert found.pop("retry_wait") == pytest.approx(3600, abs=1)
        assert found == {
            "buffer_total_bytes": size, "buffer_stage_length": 0, "buffer_stage_byte_size": 0,
            "buffer_queue_length": 1, "buffer_queue_byte_size": size, "buffer_newest_timekey": SLOT,
            "buffer_oldest_timekey": SLOT, "retry_count": 1, "num_errors": 1, "emit_count": 1,
            "emit_records": 2, "write_count": 0, "rollback_count": 1, "slow_flush_count": 0,
        }  # fmt: skip
        kind = page.kinds["fluentd_output_status_write_count"]
        assert kind == ("gauge" if gauge_all else "unknown")
        assert page.kinds["fluentd_output_status_rollback_count"] == "gauge"
        labels = {"plugin_id": "out_test", "plugin_category": "output", "type": "test", "worker": "w0"}
        labels["host"] = os.uname().nodename
        assert {
            name.removeprefix("fluentd_status_"): value
            for (name, own), value in page.numbers.items()
            if own == frozenset(labels.items())
        } == {
            "buffer_queue_length": 1, "buffer_total_bytes": size, "retry_count": 1,
            "buffer_newest_timekey": SLOT, "buffer_oldest_timekey": SLOT,
        }  # fmt: skip
        driver.plugin("out_test").fail_with = lambda _: None


@pytest.mark.parametrize(
    ("line", "message"), [("host $.host", "a field of a record"), ("a-b c", "cannot be the name of a label")]
)
def test_wrong_labels(line: str, message: str) -> None:
    for name in ("prometheus_monitor", "prometheus_output_monitor"):
        with pytest.raises(InvalidConfiguration, match=message):
            run(f"<source>\n@type {name}\n<labels>\n{line}\n</labels>\n</source>", start=False)


def test_fields_of_tail_and_forward(tmp_path: Path) -> None:
    # Fluentd 1.19 gives these keys and values in the same situation, `retry` last
    (tmp_path / "in.log").write_text("1\n2\n")
    with run(f"""
<source>
  @type monitor_agent
  @id monitor
  port 0
  bind 127.0.0.1
  include_retry true
</source>
<source>
  @type tail
  @id tail
  path {tmp_path}/in.log
  tag tail
  read_from_head true
  <parse>
    @type none
  </parse>
</source>
<match tail>
  @type copy
  @id copy
  <store>
    @type test
  </store>
</match>
<match tail>
  @type forward
  @id forward
  heartbeat_type none
  <server>
    host 127.0.0.1
  </server>
</match>
""") as driver:  # fmt: skip
        driver.wait_for(driver.events)
        tail, copy, forward = (plugins(driver, f"?id={name}")[0] for name in ("tail", "copy", "forward"))
        assert list(tail.items())[-7:] == [
            ("emit_records", 2), ("emit_size", 0), ("opened_file_count", 1), ("closed_file_count", 0),
            ("rotated_file_count", 0), ("throttled_log_count", 0), ("tracked_file_count", 1),
        ]  # fmt: skip
        assert (copy["output_plugin"], copy["retry_count"], "retry" in copy) == (False, 0, False)
        assert list(forward.items())[-3:] == [
            ("healthy_nodes_count", 1), ("registered_nodes_count", 1), ("retry", {})
        ]  # fmt: skip
        # an output with others in it is no output for this query
        assert [info["plugin_id"] for info in plugins(driver, "/?tag=tail")] == ["forward"]

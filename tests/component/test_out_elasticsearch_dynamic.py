"""`<match> @type elasticsearch_dynamic`: parameters that depend on each event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bulk_server import BulkServer, failure

from forwarder.api.testing import Driver, run
from forwarder.config.diagnostics import InvalidConfiguration

OUTPUT = "out_elasticsearch_dynamic"
TIME_NS = 1_700_000_000_000_000_000
CONFIG = """
<match **>
  @type elasticsearch_dynamic
  {parameters}
  <buffer tag>
    flush_mode lazy
    retry_wait 0.01
    retry_randomize false
  </buffer>
</match>
<label @ERROR>
  <match **>
    @type test
    @id errors
  </match>
</label>
"""


@pytest.fixture
def server() -> Iterator[BulkServer]:
    with BulkServer() as server:
        yield server


def send(text: str, *records: dict[str, Any], tag: str = "app.web") -> Driver:
    with run(text) as driver:
        driver.emit(tag, *records, time_ns=TIME_NS)
        driver.flush()
        driver.wait_for(lambda: driver[OUTPUT].delivered + driver[OUTPUT].to_error == len(records))
    return driver


def here(server: BulkServer, parameters: str) -> str:
    return CONFIG.format(parameters=f"host 127.0.0.1\nport {server.port}\n{parameters}")


def actions(server: BulkServer) -> list[Any]:
    return [action for request in server.bulks for action, _ in request.pairs()]


def test_the_index_of_each_event(server: BulkServer) -> None:
    index = "index_name ${record['kind'] || 'none'}-${tag_parts[1]}-${Time.at(time).utc.strftime('%Y.%m')}"
    send(here(server, index), {"n": 1, "kind": "A"}, {"n": 2}, {"n": 3, "kind": "a"})
    assert len(server.bulks) == 1
    names = [action["index"]["_index"] for action in actions(server)]
    assert names == ["a-web-2023.11", "none-web-2023.11", "a-web-2023.11"]
    assert server.taken == [{"n": 1, "kind": "A"}, {"n": 2}, {"n": 3, "kind": "a"}]


def test_the_prefix_of_each_event(server: BulkServer) -> None:
    parameters = "logstash_format true\nlogstash_prefix ${record['k8s']['ns']}\ndelimiter ."
    parameters += "\nlogstash_prefix_separator _"
    driver = send(here(server, parameters), {"k8s": {"ns": "Prod"}}, {"k8s": {}})
    assert actions(server) == [{"index": {"_index": "prod_2023.11.14"}}]
    assert driver.records("errors") == [{"k8s": {}}]
    assert driver[OUTPUT].error_reasons == {"bad_index": 1}


def test_what_is_no_expression_is_a_text(server: BulkServer) -> None:
    send(here(server, "index_name x-%y"), {"n": 1})
    assert actions(server) == [{"index": {"_index": "x-%y"}}]


def test_fields_that_depend_on_the_event(server: BulkServer) -> None:
    parameters = "index_name x\nid_key ${record['by']}\ninclude_tag_key true\ntag_key ${tag_parts[0]}_tag"
    send(here(server, parameters), {"by": "a", "a": "1"}, {"by": "b", "b": "2"}, {"by": "a", "a": "3"})
    assert actions(server) == [{"index": {"_index": "x", "_id": id_}} for id_ in ("1", "3", "2")]
    assert [doc["app_tag"] for doc in server.taken] == ["app.web"] * 3


def test_the_cluster_of_each_event(server: BulkServer) -> None:
    with BulkServer() as other:
        text = CONFIG.format(parameters="hosts 127.0.0.1:${record['port']}\nindex_name x\nremove_keys port")
        records = [
            {"n": 1, "port": server.port},
            {"n": 2, "port": other.port},
            {"n": 3},
            {"n": 4, "port": "x"},
        ]
        driver = send(text, *records)
        assert (server.taken, other.taken) == ([{"n": 1}], [{"n": 2}])
        assert sorted(record["n"] for record in driver.records("errors")) == [3, 4]
        assert driver[OUTPUT].error_reasons == {"bad_parameter": 2}


def test_one_cluster_that_fails_keeps_only_its_own(server: BulkServer) -> None:
    with BulkServer() as other:
        other.answers = [(503, b"")] * 2
        text = CONFIG.format(parameters="hosts 127.0.0.1:${record['port']}\nindex_name x")
        driver = send(text, {"n": 1, "port": server.port}, {"n": 2, "port": other.port})
        assert [doc["n"] for doc in server.taken + other.taken] == [1, 2]
        assert driver[OUTPUT].failures == 2
        assert len(server.bulks) == 1


def test_what_a_group_has_left_is_sent_again(server: BulkServer) -> None:
    held = [failure(503, "unavailable_shards_exception")] * 2
    server.rule = lambda _, doc: held.pop() if held and doc["n"] == 2 else None
    text = here(server, "index_name x\nrouting_key ${record['by']}")
    send(text, {"n": 1, "by": "n"}, {"n": 2, "by": "n"}, {"n": 3, "by": "m"})
    assert sorted(doc["n"] for doc in server.taken) == [1, 2, 3]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("index_name ${record['a'].gsub('x', 'y')}", "${record['a'].gsub('x', 'y')}"),
        ("index_name x-${Time.now.strftime('%Y')}", "Time.at(time).strftime"),
        ("hosts ${`hostname`}", "hosts: this Ruby is not translated"),
        ("logstash_format true\nlogstash_prefix ${x}", "logstash_prefix: this Ruby is not translated: ${x}"),
    ],
)
def test_other_ruby_is_refused_with_its_line(parameters: str, words: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        run(CONFIG.format(parameters=parameters), start=False)
    assert words in str(caught.value)
    assert "test.conf:" in str(caught.value)

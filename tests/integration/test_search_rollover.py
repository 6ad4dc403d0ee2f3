"""Aliases that are rolled over, and outputs whose index depends on the event, with a real Elasticsearch and a
real OpenSearch.

Policies are not among it: these distributions have no lifecycle management.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from search_output import config
from searchnode import Node

from forwarder.api.testing import Driver, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("search")]


def delivered(driver: Driver, count: int) -> None:
    driver.wait_for(lambda: driver["es"].delivered + driver["es"].to_error == count, 60)


@pytest.mark.parametrize("legacy", [True, False])
def test_an_alias_is_made_and_rolled_over(tight_node: Node, index: str, tmp_path: Path, legacy: bool) -> None:
    content = {"mappings": {"properties": {"code": {"type": "keyword"}}}}
    template = {"index_patterns": [f"{index}-app-*"], **(content if legacy else {"template": content})}
    file = tmp_path / "template.json"
    file.write_text(json.dumps(template))
    settings = f"""index_name {index}-${{tag}}
  application_name shop
  index_date_pattern ""
  rollover_index true
  template_name {index}
  template_file {file}
  use_legacy_template {json.dumps(legacy)}"""
    with run(config(tight_node, settings)) as driver:
        driver.emit("app", {"n": 1, "code": 1})
        delivered(driver, 1)
        alias = f"{index}-app"
        assert tight_node.request("POST", f"/{alias}/_rollover").body["new_index"] == f"{alias}-shop-000002"
        driver.emit("app", {"n": 2, "code": 2})
        delivered(driver, 2)
    with run(config(tight_node, settings)) as driver:  # another start finds the alias
        driver.emit("app", {"n": 3, "code": 3})
        delivered(driver, 3 - 2)
    hits = tight_node.documents(alias, "n")
    assert [(hit["_index"], hit["_source"]["n"]) for hit in hits] == [
        (f"{alias}-shop-000001", 1), (f"{alias}-shop-000002", 2), (f"{alias}-shop-000002", 3),
    ]  # fmt: skip
    assert tight_node.mapping(f"{alias}-shop-000002")["code"] == "keyword"


def test_every_day_has_its_alias(tight_node: Node, index: str, tmp_path: Path) -> None:
    file = tmp_path / "template.json"
    file.write_text(json.dumps({"index_patterns": [f"{index}-*"]}))
    settings = f"""logstash_format true
  logstash_prefix {index}
  rollover_index true
  template_name {index}
  template_file {file}"""
    first, second = 1_700_000_000_000_000_000, 1_700_086_400_000_000_000
    with run(config(tight_node, settings)) as driver:
        driver.emit("app", (first, {"n": 1}), (second, {"n": 2}))
        delivered(driver, 2)
    hits = tight_node.documents(f"{index}-*", "n")
    names = [f"{index}-default-2023.11.{day}-000001" for day in (14, 15)]
    assert [hit["_index"] for hit in hits] == names
    aliases = tight_node.request("GET", f"/{names[0]}/_alias").body[names[0]]["aliases"]
    assert list(aliases) == [f"{index}-2023.11.14"]


def test_lifecycle_management_that_is_missed(tight_node: Node, index: str, tmp_path: Path) -> None:
    file = tmp_path / "template.json"
    file.write_text("{}")
    settings = f"index_name {index}\n  enable_ilm true\n  template_name x\n  template_file {file}"
    with run(config(tight_node, settings)) as driver:
        driver.emit("app", {"n": 1})
        driver.wait_for(lambda: "has no lifecycle management" in driver.log, 30)
        assert driver["es"].delivered == 0


def test_an_index_name_that_is_taken(tight_node: Node, index: str, tmp_path: Path) -> None:
    """An index has the alias's name: nothing is written to it, and the log says what is in the way."""
    assert tight_node.request("PUT", f"/{index}").status == 200
    file = tmp_path / "template.json"
    file.write_text(json.dumps({"index_patterns": [f"{index}-*"]}))
    settings = f"index_name {index}\n  rollover_index true\n  template_name {index}\n  template_file {file}"
    with run(config(tight_node, settings)) as driver:
        driver.emit("app", {"n": 1})
        driver.wait_for(lambda: "invalid_alias_name_exception" in driver.log, 30)
        assert driver["es"].delivered == 0
        assert tight_node.request("DELETE", f"/{index}").status == 200
        delivered(driver, 1)


def test_the_index_of_each_event(tight_node: Node, index: str) -> None:
    name = "${record['team'].downcase}-${tag_parts[0]}-${Time.at(time).utc.strftime('%Y')}"
    with run(config(tight_node, f"index_name {index}-{name}", output="elasticsearch_dynamic")) as driver:
        driver.emit("app.web", {"n": 1, "team": "A"}, {"n": 2, "team": "b"}, {"n": 3})
        delivered(driver, 3)
        assert driver.records("rejected") == [{"n": 3}]
    hits = tight_node.documents(f"{index}-*", "n")
    assert [hit["_index"] for hit in hits] == [f"{index}-a-app-2023", f"{index}-b-app-2023"]

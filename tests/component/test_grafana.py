"""The board, the alert rules and docs/metrics.md name only metrics and labels that a page has."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from forwarder.api import Chunk, Output, UnrecoverableError
from forwarder.api.testing import run
from tests.component.test_in_prometheus import LOST_AND_FOUND, SOURCE, Scrape, scrape

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs/metrics.md").read_text()
BOARD: dict[str, Any] = json.loads((ROOT / "docker/grafana/forwarder.json").read_text())
RULES = yaml.safe_load(
    next(block for block in re.findall(r"```yaml\n(.*?)```", DOCS, re.S) if "alert:" in block)
)
FROM_SCRAPER = {"job", "instance"}

Selector = tuple[str, frozenset[str]]


class Refuses(Output):
    def write(self, chunk: Chunk) -> None:
        raise UnrecoverableError("never", whole=True)


@pytest.fixture(scope="module")
def page() -> Scrape:
    """A page with at least one sample of every metric."""
    config = (
        "<system>\nenable_size_metrics true\n</system>\n"
        + SOURCE
        + """
        <source>
          @type http
          port 0
        </source>
        <source>
          @type tail
          tag tailed
          path /dev/null/none
          <parse>
            @type none
          </parse>
        </source>
        <match filtered>
          @type exec_filter
          command cat
          tag t
          in_keys m
          out_keys m
        </match>
        <filter **>
          @type parser
          key_name m
          <parse>
            @type none
          </parse>
        </filter>
        <match t>
          @type refuses
          <buffer>
            flush_mode immediate
          </buffer>
        </match>
        """
        + LOST_AND_FOUND
    )
    with run(config, plugins={("output", "refuses"): Refuses}) as driver:
        driver.emit("t", {"m": "x"}, {"no": "field"})
        driver.emit("unmatched", {"m": "x"})
        urllib.request.urlopen(f"http://127.0.0.1:{driver.plugin('in_http').bound_port}/").close()
        driver.wait_for(lambda: driver["out_refuses"].rejected)
        return scrape(driver)


def selectors(expression: str) -> Iterator[Selector]:
    """The metrics of an expression with the labels that are asked for."""
    text = expression.replace("$__rate_interval", "5m")
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(text), found.append)
    for node in found:
        vector = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(vector, promql_parser.VectorSelector):
            yield vector.name, frozenset(matcher.name for matcher in vector.matchers.matchers)


def expressions() -> list[str]:
    queries = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]
    return queries + [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]


def labels_of(page: Scrape) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, labels in page.numbers:
        found.setdefault(name, set()).update(key for key, _ in labels)
    return found


def test_every_expression_uses_metrics_and_labels_that_exist(page: Scrape) -> None:
    known = labels_of(page)
    used = {selector for expression in expressions() for selector in selectors(expression)}
    assert len(used) > 30
    for name, labels in used:
        assert name in known, f"no such metric: {name}"
        assert labels - FROM_SCRAPER <= known[name], f"no such label of {name}: {labels - known[name]}"
    for variable in BOARD["templating"]["list"]:
        for name in re.findall(r"forwarder_\w+", str(variable["query"])):
            assert name in known


def test_grouping_and_legends_use_labels_that_exist(page: Scrape) -> None:
    known = labels_of(page)
    for panel in BOARD["panels"]:
        for target in panel.get("targets", ()):
            labels = FROM_SCRAPER.union(*(known[name] for name, _ in selectors(target["expr"])))
            grouped = [set(re.split(r",\s*", each)) for each in re.findall(r"by \(([^)]*)\)", target["expr"])]
            for group in grouped:
                assert group <= labels, target["expr"]
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= (grouped[0] if grouped else labels), target["expr"]


def test_the_check_sees_what_does_not_exist(page: Scrape) -> None:
    assert "forwarder_nothing_total" not in labels_of(page)
    assert set(selectors("rate(forwarder_nothing_total{a='b'}[$__rate_interval])")) == {
        ("forwarder_nothing_total", frozenset({"a"}))
    }
    with pytest.raises(ValueError, match=r".+"):
        list(selectors("sum(rate(x[5m])"))


def missing(ours: Any, read: Any, path: str = "") -> Iterator[str]:
    """What `read` lacks of `ours`; it may have defaults besides."""
    if isinstance(ours, dict) and isinstance(read, dict):
        for key, value in ours.items():
            if key in read:
                yield from missing(value, read[key], f"{path}/{key}")
            elif value not in (None, [], {}):
                yield f"{path}/{key}"
    elif isinstance(ours, list) and isinstance(read, list) and len(ours) == len(read):
        for number, (one, other) in enumerate(zip(ours, read, strict=True)):
            yield from missing(one, other, f"{path}/{number}")
    elif ours != read:
        yield path


def test_the_board_is_one_that_grafana_knows() -> None:
    """Grafana's own model of a board reads it and writes all of it: no key is unknown or misplaced."""
    register_default_plugins()
    read = json.loads(json.dumps(Dashboard.from_json(BOARD), cls=JSONEncoder))
    assert list(missing(BOARD, read)) == []
    assert list(missing({**BOARD, "titel": "x"}, read)) == ["/titel"]
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
        assert all(target["refId"] for target in panel.get("targets", ()))


def test_the_docs_list_every_metric_with_its_type(page: Scrape) -> None:
    listed = {
        name.removesuffix("_total"): kind
        for name, kind in re.findall(r"^\| `(forwarder_\w+)` \| (\w+) \|", DOCS, re.M)
    }
    assert listed == {name: kind for name, kind in page.kinds.items() if name.startswith("forwarder_")}
    for name in page.kinds:
        assert name in DOCS

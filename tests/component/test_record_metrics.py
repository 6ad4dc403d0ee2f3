"""The filter and the output `prometheus`: metrics made from records, as a scrape shows them."""

from __future__ import annotations

import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from forwarder.api import ConfigError
from forwarder.api.testing import Driver, run

METRICS = """
<metric>
  name requests_total
  type counter
  desc Requests.
  <labels>
    status ${status}
    app ${tag_parts[-1]}/${tag_prefix[0]}
    pod $.k8s.pod
  </labels>
</metric>
<metric>
  name bytes_total
  type counter
  desc Bytes.
  key $.size
</metric>
<metric>
  name last_size
  type gauge
  desc Size.
  key size
</metric>
<metric>
  name seconds
  type histogram
  desc Time.
  key seconds
  buckets 0.1, 1,5
</metric>
<metric>
  name seconds_summary
  type summary
  desc Time.
  key seconds
</metric>
<labels>
  worker ${worker_id}
</labels>
"""


def driver(metrics: str, more: str = "") -> Driver:
    return run(
        f"""
        <source>
          @type prometheus
          @id page
          port 0
        </source>
        <filter **>
          @type prometheus
          @id metrics
          {metrics}
        </filter>
        {more}
        <match **>
          @type test
        </match>
        """
    )


def scrape(engine: Driver) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    url = f"http://127.0.0.1:{engine.plugin('page').bound_port}/metrics"
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    numbers = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(numbers) == len(samples), "a number stands twice on the page"
    return numbers


def number(engine: Driver, metric: str, /, **labels: str) -> float | None:
    return scrape(engine).get((metric, frozenset(labels.items())))


def test_all_kinds() -> None:
    with driver(METRICS) as engine:
        engine.emit("web.a", {"status": 200, "k8s": {"pod": "p"}, "size": 10, "seconds": 0.1})
        engine.emit("web.a", {"status": 200, "k8s": {"pod": "p"}, "size": 5.5, "seconds": 0.2})
        engine.emit("web.b", {"status": "404", "size": None, "seconds": 7}, {"size": "7", "seconds": True})
        engine.emit("web.b", {"size": -3})
        assert len(engine.records()) == 5
        found = scrape(engine)

        def value(name: str, **labels: str) -> float | None:
            return found.get((name, frozenset({**labels, "worker": "0"}.items())))

        assert value("requests_total", status="200", app="a/web", pod="p") == 2
        assert value("requests_total", status="404", app="b/web", pod="") == 1
        assert value("requests_total", status="", app="b/web", pod="") == 2
        assert value("bytes_total") == 15.5
        assert value("last_size") == -3
        buckets = [value("seconds_bucket", le=bound) for bound in ("0.1", "1.0", "5.0", "+Inf")]
        assert buckets == [1, 2, 2, 3]
        assert value("seconds_sum") == pytest.approx(7.3)
        assert value("seconds_summary_count") == 3
        assert "metric bytes_total: the value is no number" in engine.log


ONE = "<metric>\nname n_total\ntype counter\ndesc N.\n<labels>\na ${a}\nb x\n</labels>\n%s</metric>"


def test_series_are_there_from_the_start() -> None:
    with driver(
        ONE % "initialized true\n<initlabels>\na 1\n</initlabels>\n<initlabels>\na 2\n</initlabels>\n"
    ) as engine:
        engine.emit("t", {"a": 2})
        assert number(engine, "n_total", a="1", b="x") == 0
        assert number(engine, "n_total", a="2", b="x") == 1


def test_the_number_of_series_is_bounded_and_what_is_over_is_counted() -> None:
    with driver("max_series_per_metric 2\n" + ONE % "") as engine:
        engine.emit("t", *[{"a": number % 4} for number in range(8)])
        assert number(engine, "n_total", a="1", b="x") == 2
        assert number(engine, "n_total", a="2", b="x") is None
        assert number(engine, "fluentd_prometheus_dropped_label_sets_total", name="n_total") == 4
        assert len(engine.records()) == 8


def test_old_series_are_forgotten() -> None:
    with driver(ONE % "retention 0\n") as engine:
        engine.emit("t", {"a": 1})
        assert number(engine, "n_total", a="1", b="x") is None


def test_two_plugins_count_under_one_name() -> None:
    again = f"<filter **>\n@type prometheus\n{ONE % ''}\n</filter>"
    with driver(ONE % "", again) as engine:
        engine.emit("t", {"a": 1}, {"a": 1})
        assert number(engine, "n_total", a="1", b="x") == 4


def test_the_output_counts_and_delivers() -> None:
    with run(f"<match **>\n@type prometheus\n@id out\n{ONE % ''}\n</match>") as engine:
        engine.emit("t", {"a": "ü"}, {})
        (family,) = engine.plugin("out").measure()
        assert [(sample.labels["a"], sample.value) for sample in family.samples] == [("", 1), ("ü", 1)]
        assert engine["out"].delivered == 2


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("<metric>\nname n\ntype gauge\ndesc N.\n</metric>", "a gauge needs key"),
        ("<metric>\nname a-b\ntype counter\ndesc N.\n</metric>", "cannot be the name of a metric"),
        ("<metric>\nname n\ntype counter\ndesc N.\n<labels>\na-b 1\n</labels>\n</metric>", "name of a label"),
        ("<metric>\nname n\ntype histogram\ndesc N.\nkey k\nbuckets 2,1\n</metric>", "must ascend"),
        ("<metric>\nname n\ntype histogram\ndesc N.\nkey k\nbuckets x\n</metric>", "could not convert"),
        (ONE % "initialized true\n", "a has no value"),
        (ONE % "initialized true\n<initlabels>\nc 1\n</initlabels>\n", "c is not in <labels>"),
        (ONE % "initialized true\n<initlabels>\na 1\nb 1\n</initlabels>\n", "b is the same for all"),
    ],
)
def test_wrong_configuration(metrics: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        driver(metrics)

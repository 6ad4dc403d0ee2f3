"""Routing: which filters and which output a tag meets, and how a batch is taken apart."""

from __future__ import annotations

import io
from typing import cast

import pytest

from forwarder._native import EventBatch, EventStream
from forwarder.api.errors import BufferOverflow, ConfigError
from forwarder.core import router as router_module
from forwarder.core.context import PluginContext, Routes
from forwarder.core.pipeline import FilterNode, OutputNode
from forwarder.core.router import NoMatch, Router
from forwarder.telemetry.ledger import Counters
from forwarder.telemetry.log import Log


def make_context(name: str) -> PluginContext:
    log = Log(io.StringIO())
    return PluginContext(
        plugin_id=name, type_name=name, argument="", label=None, home="@ROOT", log=log.of(name), sink=log,
        counters=Counters(name, "router", name), routes=Routes(), worker_id=0, hostname="h", root_dir=None,
        dir_permission=0o755, file_permission=0o644, check_only=False,
    )  # fmt: skip


class Sink(OutputNode):
    def __init__(self, name: str) -> None:
        self.name = name
        self.context = make_context(name)
        self.full = False
        self.got: list[EventBatch] = []

    def admit(self, batch: EventBatch) -> None:
        if self.full:
            raise BufferOverflow(self.name)

    def deliver(self, batch: EventBatch, *, to_error: bool = True) -> bool:
        self.got.append(batch)
        return True

    def tags(self) -> list[str]:
        return [tag for batch in self.got for tag in batch.tags]


class PassFilter:
    def filter_batch(self, batch: EventBatch) -> EventBatch:
        return batch


def make_filter(name: str) -> FilterNode:
    return FilterNode(cast("object", PassFilter()), make_context(name))  # type: ignore[arg-type]


def make_router(*sections: tuple[str, FilterNode | OutputNode]) -> Router:
    router = Router(NoMatch(make_context("@ROOT")))
    for pattern, node in sections:
        router.add(pattern, node)
    return router


def batch_of(*tags: str) -> EventBatch:
    return EventBatch([(tag, EventStream.from_events([(i, {"i": i})])) for i, tag in enumerate(tags)])


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("a", ["a"], ["a.b", "ab", "b", ""]),
        ("a.*", ["a.b", "a."], ["a", "a.b.c", "xa.b"]),
        ("a.**", ["a", "a.b", "a.b.c"], ["ab", "ab.c", "x.a"]),
        ("**", ["a", "a.b", ""], []),
        ("**.a", ["a", "b.a", "c.b.a"], ["a.b", "ba"]),
        ("a.**.b", ["a.b", "a.x.b", "a.x.y.b"], ["a", "a.x", "a.xb"]),
        ("ab*", ["ab", "abc"], ["a", "ab.c"]),
        ("a.*c", ["a.c", "a.bc"], ["a.b", "a.b.c", "c"]),
        ("*c", ["c", "bc"], ["b.c"]),
        ("{a,b}.c", ["a.c", "b.c"], ["a", "c", "a,b.c"]),
        ("a.{b,c.**}", ["a.b", "a.c", "a.c.d"], ["a.d", "a.b.c"]),
        ("{a,{b,c}}x", ["ax", "bx", "cx"], ["x", "abx"]),
        ("a b", ["a", "b"], ["a b", "ab"]),
        ("a.** b.*", ["a", "a.x.y", "b.x"], ["b", "c"]),
        ("a,b", ["a,b"], ["a", "b"]),
        (r"a\*", ["a*"], ["a", "ab"]),
        ("/a.b/", ["axb", "a.b"], ["a.bc", "xa.b"]),
        (r"/(?<n>foo|bar)\.\h+/", ["foo.1f", "bar.0"], ["foo.x", "foo."]),
        ("a+b", ["a+b"], ["aab"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    router = make_router((pattern, Sink("out")))
    assert [tag for tag in yes + no if router.matches(tag)] == yes


@pytest.mark.parametrize("pattern", ["/a", "/(a/"])
def test_a_broken_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="pattern"):
        make_router((pattern, Sink("out")))


def test_filters_before_the_match_apply_in_file_order() -> None:
    early, wide, late = make_filter("early"), make_filter("wide"), make_filter("late")
    first, second = Sink("first"), Sink("second")
    router = make_router(
        ("a.**", early), ("a.x", first), ("**", wide), ("a.**", second), ("**", late), ("**", Sink("hidden"))
    )
    assert (router.find("a.x").filters, router.find("a.x").output) == ((early,), first)
    assert (router.find("a.y").filters, router.find("a.y").output) == ((early, wide), second)
    assert router.find("b").filters == (wide, late)


def test_tags_with_one_pipeline_stay_one_batch() -> None:
    sink = Sink("out")
    router = make_router(("a.**", make_filter("f")), ("a.** b", sink))
    batch = batch_of("a.1", "a.2", "a.3")
    router.route(batch)
    router.route(batch)
    assert sink.got == [batch, batch]
    assert sink.got[0] is batch


def test_a_mixed_batch_is_one_call_per_pipeline_in_order() -> None:
    first, second = Sink("first"), Sink("second")
    router = make_router(("a.*", first), ("b.*", second))
    router.route(batch_of("a.1", "b.1", "c", "a.2", "b.2", "a.1"))
    assert [len(batch) for batch in first.got] == [3]
    assert first.tags() == ["a.1", "a.2"]
    assert second.tags() == ["b.1", "b.2"]
    events = [event["i"] for _, stream in first.got[0].streams() for _, event in stream]
    assert events == [0, 3, 5]
    assert router.no_match.context.counters.snapshot().lost == {"no_match": 1}


def test_a_full_output_leaves_the_whole_batch_untaken() -> None:
    first, second = Sink("first"), Sink("second")
    second.full = True
    router = make_router(("a", first), ("b", second))
    with pytest.raises(BufferOverflow):
        router.route(batch_of("a", "b"))
    assert first.got == []
    with pytest.raises(BufferOverflow):
        router.admit(batch_of("b"))
    router.admit(batch_of("a"))


def test_the_cache_of_tags_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "_CACHED_TAGS", 10)
    sink = Sink("out")
    router = make_router(("a.*", sink))
    for start in range(0, 100, 5):
        router.route(batch_of(*(f"a.{number}" for number in range(start, start + 5))))
    assert sum(len(batch) for batch in sink.got) == 100
    assert len(router._routes) <= 10


def test_unmatched_events_are_counted_and_logged_once() -> None:
    router = make_router(("a", Sink("out")))
    for _ in range(100):
        router.route(batch_of("x", "x", "y"))
    metrics = router.no_match.context.counters.snapshot()
    assert metrics.lost == {"no_match": 300}
    assert metrics.balance == 0

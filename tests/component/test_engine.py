"""Routes, errors and the books, through configuration text."""

from __future__ import annotations

from threading import Event as Flag

import pytest

from forwarder.api import BufferOverflow, EventBatch, Filter, Input, Output, RecordFilter, string
from forwarder.api.plugin import Record
from forwarder.api.testing import Event, run
from forwarder.config import InvalidConfiguration


class Mark(RecordFilter):
    """Adds its id to the record; drops records with `drop`."""

    def filter_record(self, tag: str, time_ns: int, record: Record) -> Record | None:
        if record.get("drop"):
            return None
        return {**record, self.context.id: True}


class Broken(Filter):
    def filter_batch(self, batch: EventBatch) -> EventBatch:
        raise RuntimeError("filter is broken")


class Strict(Filter):
    """Sends everything to @ERROR, by name."""

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        self.context.emit_error(batch, "bad_format", "no good")
        return EventBatch([])


class Namer(Filter):
    """Drops everything, with a reason for the first event."""

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        self.context.drop(1, "too_long")
        return EventBatch([])


class Doubler(Filter):
    def filter_batch(self, batch: EventBatch) -> EventBatch:
        return EventBatch.concat([batch, batch])


class Failing(Output):
    def process_batch(self, batch: EventBatch) -> None:
        raise OSError("no route")


PLUGINS = {
    ("filter", "mark"): Mark,
    ("filter", "broken"): Broken,
    ("filter", "strict"): Strict,
    ("filter", "namer"): Namer,
    ("filter", "doubler"): Doubler,
    ("output", "failing"): Failing,
}


def test_labels_have_their_own_routes() -> None:
    with run(
        """
        <filter **>
          @type mark
          @id root
        </filter>
        <match **>
          @type relabel
          @label @A
        </match>
        <label @A>
          <filter a>
            @type mark
            @id inner
          </filter>
          <match **>
            @type test
          </match>
        </label>
        """,
        plugins=PLUGINS,
    ) as driver:
        driver.emit("a", {"i": 1}, {"i": 2, "drop": True})
        driver.emit("b", {"i": 3})
        driver.emit("a", {"i": 4}, label="@A")
    assert driver.events() == [
        Event("a", 1_700_000_000_000_000_000, {"i": 1, "root": True, "inner": True}),
        Event("b", 1_700_000_000_000_000_000, {"i": 3, "root": True}),
        Event("a", 1_700_000_000_000_000_000, {"i": 4, "inner": True}),
    ]
    assert driver["root"].lost == {"filtered": 1}
    assert (driver["out_relabel"].delivered, driver["out_test"].delivered) == (2, 3)


def test_relabel_to_root_starts_over() -> None:
    with run(
        """
        <match once>
          @type test
        </match>
        <label @A>
          <match **>
            @type relabel
            @label @ROOT
          </match>
        </label>
        """
    ) as driver:
        driver.emit("once", {"i": 1}, label="@A")
    assert driver.records() == [{"i": 1}]


@pytest.mark.parametrize(
    ("type_name", "reason"), [("broken", "filter_error"), ("strict", "bad_format"), ("failing", "emit_error")]
)
@pytest.mark.parametrize("label", [True, False])
def test_errors_go_to_the_error_label_or_into_the_books(type_name: str, reason: str, label: bool) -> None:
    section = (
        "<match bad>\n@type failing\n@id it\n</match>"
        if type_name == "failing"
        else f"<filter bad>\n@type {type_name}\n@id it\n</filter>"
    )
    error = "<label @ERROR>\n<match **>\n@type test\n@id errors\n</match>\n</label>" if label else ""
    with run(f"{section}\n<match **>\n@type test\n@id good\n</match>\n{error}", plugins=PLUGINS) as driver:
        driver.emit("bad", {"i": 1}, {"i": 2})
        driver.emit("good", {"i": 3})
    assert driver.records("good") == [{"i": 3}]
    assert driver.records("errors") == ([{"i": 1}, {"i": 2}] if label else [])
    assert driver["it"].to_error == (2 if label else 0)
    assert driver["it"].lost == ({} if label else {reason: 2})
    assert "[warn]: #it" in driver.log


def test_errors_inside_the_error_label_end_there() -> None:
    with run(
        """
        <label @ERROR>
          <filter **>
            @type broken
          </filter>
          <match **>
            @type test
          </match>
        </label>
        <match **>
          @type failing
        </match>
        """,
        plugins=PLUGINS,
    ) as driver:
        driver.emit("a", {"i": 1})
    assert driver.events() == []
    assert driver["out_failing"].to_error == 1
    assert driver["filter_broken"].lost == {"filter_error": 1}


def test_reasons_named_by_a_filter_and_events_that_it_adds() -> None:
    with run(
        """
        <filter a>
          @type namer
        </filter>
        <filter b>
          @type doubler
        </filter>
        <match **>
          @type test
        </match>
        """,
        plugins=PLUGINS,
    ) as driver:
        driver.emit("a", {}, {}, {})
        driver.emit("b", {}, {})
        driver.emit("c", {})
    assert driver["filter_namer"].lost == {"too_long": 1, "filtered": 2}
    assert driver["filter_doubler"].added == 2
    assert driver["out_test"].delivered == 5


def test_unmatched_events_are_in_the_books() -> None:
    with run("<match a>\n@type test\n</match>") as driver:
        for _ in range(50):
            driver.emit("x.y", {})
    assert driver.metrics().lost() == {("@ROOT", "no_match"): 50}
    assert driver.log.count("no patterns matched") == 2  # at once, and the summary at the end


class Ticker(Input):
    """Emits once at its start, counting as an input does."""

    tag = string("Tag.")

    def start(self) -> None:
        self.context.received(3)
        self.context.drop(1, "unmatched")
        from forwarder.api import EventStream  # noqa: PLC0415

        self.emit(self.tag, EventStream.from_events([(1, {"i": 1}), (2, {"i": 2})]))

    def stop(self) -> None:
        self.log.info("ticker stops")


def test_inputs_start_last_and_their_books_show_what_they_lost() -> None:
    with run(
        """
        <source>
          @type ticker
          @label @IN
          tag t
        </source>
        <label @IN>
          <match **>
            @type test
          </match>
        </label>
        """,
        plugins={("input", "ticker"): Ticker},
    ) as driver:
        pass
    assert driver.records() == [{"i": 1}, {"i": 2}]
    ticker = driver["in_ticker"]
    assert (ticker.received, ticker.emitted, ticker.lost, ticker.balance) == (3, 2, {"unmatched": 1}, 0)
    assert "#in_ticker ticker stops" in driver.log


class Late(Input):
    def start(self) -> None:
        raise OSError("port in use")


class Closing(Output):
    closed: Flag = Flag()

    def process_batch(self, batch: EventBatch) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed.set()


def test_a_failed_start_closes_what_was_started() -> None:
    Closing.closed.clear()
    with pytest.raises(OSError, match="port in use"):
        run(
            "<source>\n@type late\n</source>\n<match **>\n@type closing\n</match>",
            plugins={("input", "late"): Late, ("output", "closing"): Closing},
        )
    assert Closing.closed.is_set()


def test_own_log_lines_are_events_where_a_match_wants_them() -> None:
    config = "<match {}>\n@type test\n</match>\n<match other>\n@type test\n@id other\n</match>"
    for pattern, wanted in (("fluent.**", True), ("**", True), ("a", False)):
        with run(config.format(pattern), log_events=True) as driver:
            driver.engine.plugins[0].context.log.warning("something happened", count=3)
            if wanted:
                (event,) = driver.wait_for_events(1)
                assert event.tag == "fluent.warn"
                assert event.record == {"message": "something happened", "count": 3, "plugin_id": "out_test"}
        assert bool(driver.events()) is wanted


@pytest.mark.parametrize("verbose", [True, False])
def test_log_lines_of_the_stop_are_events_where_that_is_wanted(verbose: bool) -> None:
    class Talking(Input):
        def stop(self) -> None:
            self.log.warning("the last word")

    config = (
        f"<system>\nlog_event_verbose {str(verbose).lower()}\n</system>\n<source>\n@type talking\n</source>\n"
        "<match fluent.**>\n@type test\n<buffer tag>\n</buffer>\n</match>"
    )
    with run(config, plugins={("input", "talking"): Talking}, log_events=True) as driver:
        pass
    assert ("the last word" in [record["message"] for record in driver.records()]) is verbose


def test_own_log_lines_cannot_loop() -> None:
    config = "<label @FLUENT_LOG>\n<match **>\n@type failing\n</match>\n</label>"
    with run(config, plugins=PLUGINS, log_events=True) as driver:
        driver.engine.plugins[0].context.log.warning("start")
        driver.wait_for(lambda: driver["out_failing"].received)
    assert driver["out_failing"].received <= 2
    assert driver["@FLUENT_LOG"].received == 0


@pytest.mark.parametrize(
    ("config", "mentions"),
    [
        ("<match **>\n@type relabel\n</match>", "label"),
        ("<match **>\n@type relabel\n@label @NONE\n</match>", "@NONE"),
        ("<match **>\n@type nosuch\n</match>", "nosuch"),
        ("<match /a>\n@type null\n</match>", "/a"),
        ("<match **>\n@type copy\n</match>", "store"),
        ("<match **>\n@type copy\n<store ignore_if_prev_success>\n@type null\n</store>\n</match>",
         "prev_success"),
        ("<match **>\n@type relabel\n@label @ROOT\n<buffer>\n</buffer>\n</match>", "buffer"),
        ("<match **>\n@type null\n<secondary>\n@type null\n</secondary>\n</match>", "secondary"),
        ("<match **>\n@type null\n<buffer>\n@type file\n</buffer>\n</match>", "path is not configured"),
        ("<match **>\n@type null\n<buffer time>\n</buffer>\n</match>", "timekey"),
        ("<match **>\n@type null\n<buffer time>\ntimekey 60\ntimekey_zone Mars/X\n</buffer>\n</match>",
         "Mars"),
        ("<match **>\n@type null\n<buffer>\nflush_mode immediate\nflush_interval 3\n</buffer>\n"
         "</match>",
         "flush_interval"),
        ("<match **>\n@type null\n<buffer>\n</buffer>\n<secondary>\n@type relabel\n@label @ROOT\n"
         "</secondary>\n</match>", "buffering"),
        ("<match **>\n@type null\n<buffer>\n</buffer>\n<secondary>\n@type null\n<buffer>\n</buffer>\n"
         "</secondary>\n</match>", "secondary"),
        ("<match **>\n@type null\n@log_level loud\n</match>", "@log_level"),
    ],
)  # fmt: skip
def test_configurations_that_cannot_run(config: str, mentions: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        run(config, start=False)
    assert mentions in str(caught.value)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        run("<source>\n@type nosuch1\n</source>\n<filter **>\n@type nosuch2\n</filter>\n<match **>\n"
            "@type relabel\n"
            "</match>", start=False)  # fmt: skip
    assert len(caught.value.diagnostics.errors) == 3


class TestCopy:
    CONFIG = """
        <match **>
          @type copy
          <store {arg1}>
            @type {type1}
            @id one
          </store>
          <store {arg2}>
            @type test
            @id two
            {buffer}
          </store>
        </match>
        """

    def config(self, arg1: str = "", arg2: str = "", type1: str = "test", buffer: str = "") -> str:
        return self.CONFIG.format(arg1=arg1, arg2=arg2, type1=type1, buffer=buffer)

    def test_every_store_gets_every_event(self) -> None:
        with run(self.config(buffer="<buffer tag>\nflush_mode immediate\n</buffer>")) as driver:
            driver.emit("a", {"i": 1}, {"i": 2})
            driver.wait_for_events(2, "two")
        assert driver.events("one") == driver.events("two")

    @pytest.mark.parametrize("arg", ["", "ignore_error"])
    def test_a_failing_store_costs_the_others_nothing(self, arg: str) -> None:
        with run(self.config(arg1=arg, type1="failing"), plugins=PLUGINS) as driver:
            driver.emit("a", {"i": 1})
        assert driver.records("two") == [{"i": 1}]
        assert driver["one"].lost == {"emit_error": 1}

    def test_ignore_if_prev_success(self) -> None:
        for type1, expected in (("test", []), ("failing", [{"i": 1}])):
            config = self.config(arg1="ignore_error", arg2="ignore_if_prev_success", type1=type1)
            with run(config, plugins=PLUGINS) as driver:
                driver.emit("a", {"i": 1})
            assert driver.records("two") == expected

    def test_a_full_store_leaves_the_batch_untaken_by_all(self) -> None:
        buffer = "<buffer>\nflush_mode lazy\ntotal_limit_size 10\n</buffer>"
        with run(self.config(buffer=buffer)) as driver:
            driver.emit("a", {"i": 1})
            with pytest.raises(BufferOverflow):
                driver.emit("a", {"i": 2})
            assert driver.records("one") == [{"i": 1}]
        assert driver.records("two") == [{"i": 1}]

    def test_a_full_store_with_ignore_error_loses_alone(self) -> None:
        buffer = "<buffer>\nflush_mode lazy\ntotal_limit_size 10\n</buffer>"
        with run(self.config(arg2="ignore_error", buffer=buffer)) as driver:
            driver.emit("a", {"i": 1})
            driver.emit("a", {"i": 2})
            assert driver.records("one") == [{"i": 1}, {"i": 2}]
        assert driver["two"].lost == {"overflow": 1}


def test_null_counts_as_delivered_and_never_flush_fails() -> None:
    with run(
        "<match a>\n@type null\n@id a\n</match>\n<match b>\n@type null\n@id b\nnever_flush true\n</match>"
    ) as (driver):
        driver.emit("a", {"i": 1})
        driver.emit("b", {"i": 1})
    assert driver["a"].delivered == 1
    assert driver["b"].lost == {"emit_error": 1}

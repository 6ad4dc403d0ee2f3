"""`<source> @type udp`, driven through configuration text and real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import pytest

from forwarder._native import UdpReceiver
from forwarder.api import Parser, Record, server
from forwarder.api.testing import Driver, run

CONFIG = """
<source>
  @type udp
  bind 127.0.0.1
  port 0
  tag t.in
  {extra}
  <parse>
    @type {parser}
  </parse>
  {sections}
</source>
<match t.** other 7>
  @type test
</match>
"""


def config(extra: str = "", parser: str = "none", sections: str = "") -> str:
    return CONFIG.format(extra=extra, parser=parser, sections=sections)


def send(driver: Driver, *datagrams: bytes, plugin: str = "in_udp") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, ("127.0.0.1", driver.plugin(plugin).bound_port))


class WordsParser(Parser):
    """An event per word; "bad" raises."""

    def parse(self, text: bytes) -> Iterable[tuple[int | None, Record]]:
        for word in text.decode().split():
            if word == "bad":
                raise ValueError("a bad word")
            yield None, {"word": word}


@pytest.mark.parametrize(
    ("extra", "sent", "message"),
    [
        ("", b"one\r\n", "one"),
        ("", b"one\n\n", "one\n"),
        ("", b"", ""),
        ("", b"a\0b", "a\0b"),
        ("", "käse".encode(), "käse"),
        ("", b"\xff\xfe", b"\xff\xfe"),
        ("remove_newline false", b"one\r\n", "one\r\n"),
        ("message_length_limit 4", b"123456", "1234"),
        ("body_size_limit 3", b"123456", "123"),
    ],
)
def test_messages(extra: str, sent: bytes, message: Any) -> None:
    with run(config(extra)) as driver:
        send(driver, sent)
        (event,) = driver.wait_for_events(1)
        assert (event.tag, event.record) == ("t.in", {"message": message})


def test_the_largest_datagram_and_garbage_do_no_harm() -> None:
    with run(config("message_length_limit 64k")) as driver:
        send(driver, b"x" * 65_507, bytes(range(256)), b"after")
        records = [event.record["message"] for event in driver.wait_for_events(3)]
        assert records == ["x" * 65_507, bytes(range(256)), "after"]


def test_sender_fields() -> None:
    with run(config("source_address_key addr\nsource_hostname_key host")) as driver:
        send(driver, b"x")
        (event,) = driver.wait_for_events(1)
        assert event.record["addr"] == "127.0.0.1"
        assert event.record["host"]


def test_an_added_field_replaces_one_of_the_message() -> None:
    with run(config("source_address_key addr", "json")) as driver:
        send(driver, b'{"addr":"spoofed","n":1}')
        assert driver.wait_for_events(1)[0].record == {"addr": "127.0.0.1", "n": 1}


def test_tag_from_a_field() -> None:
    sections = "<extract>\ntag_key k\n</extract>"
    with run(config(parser="json", sections=sections)) as driver:
        send(driver, b'{"k":"other","n":1}', b'{"n":2}', b'{"k":7}')
        events = driver.wait_for_events(3)
        assert [(event.tag, event.record) for event in events] == [
            ("other", {"n": 1}), ("t.in", {"n": 2}), ("7", {})
        ]  # fmt: skip


def test_extract_time_has_no_effect_as_in_fluentd() -> None:
    sections = "<extract>\ntime_key t\n</extract>"
    with run(config(parser="json", sections=sections)) as driver:
        send(driver, b'{"t":1,"n":1}')
        (event,) = driver.wait_for_events(1)
        assert event.record == {"t": 1, "n": 1}
        assert event.time_ns > 1_600_000_000_000_000_000
        assert "time_key has no effect" in driver.log


def test_what_does_not_match_is_logged_with_its_text_and_counted() -> None:
    with run(config(parser="json")) as driver:
        send(driver, b'{"n":1}', b"xyzzy", b"plugh", b'{"n":2}')
        driver.wait_for_events(2)
        driver.wait_for(lambda: driver["in_udp"].lost.get("unmatched") == 2)
        assert "xyzzy" in driver.log
        assert driver["in_udp"].received == 4


def test_a_parser_in_python() -> None:
    with run(config(parser="words"), plugins={("parser", "words"): WordsParser}) as driver:
        send(driver, b"two words", b"bad", b"", b"end")
        events = driver.wait_for_events(3)
        assert [event.record["word"] for event in events] == ["two", "words", "end"]
        assert driver["in_udp"].lost == {"parser_error": 1, "unmatched": 1}
        assert "a bad word" in driver.log


def test_a_burst_into_a_tiny_buffer_is_accounted_for() -> None:
    sections = "<transport udp>\nreceive_buffer_size 1\n</transport>"
    with run(config(sections=sections)) as driver:
        send(driver, *[b"x" * 200] * 20_000)
        driver.stop()
        books = driver["in_udp"]
        lost = books.lost.get("kernel_drop", 0)
        assert lost > 0
        assert books.emitted + lost == books.received == 20_000
        assert len(driver.events()) == books.emitted
        assert "the kernel dropped datagrams" in driver.log


def test_a_stop_drains_what_the_kernel_has() -> None:
    with run(config()) as driver:
        send(driver, *[b"%d" % number for number in range(300)])
        driver.stop()
        assert [record["message"] for record in driver.records()] == [str(number) for number in range(300)]


def test_a_full_buffer_drops_and_counts() -> None:
    buffer = "<buffer>\n@type memory\nflush_mode interval\nflush_interval 1h\n"
    buffer += "chunk_limit_size 1k\ntotal_limit_size 2k\noverflow_action throw_exception\n</buffer>"
    with run(config().replace("@type test", f"@type test\n{buffer}")) as driver:
        driver.plugin("out_test").fail_with = lambda _: RuntimeError("not yet")
        for number in range(40):
            send(driver, b"x" * 200)
            driver.wait_for(lambda number=number: driver["in_udp"].received == number + 1)
        driver.wait_for(lambda: driver["in_udp"].lost.get("overflow"))
        driver.plugin("out_test").fail_with = lambda _: None
        driver.stop()
        books = driver["in_udp"]
        assert books.emitted + books.lost["overflow"] == 40
        assert "buffer full, events dropped" in driver.log


def test_a_receive_buffer_that_the_kernel_caps_is_warned_about() -> None:
    sections = "<transport udp>\nreceive_buffer_size 2g\n</transport>"
    with run(config(sections=sections)) as driver:
        assert "instead of 2147483648" in driver.log
        assert "net.core.rmem_max" in driver.log


class Uncounted:
    """A receiver on a kernel that does not count what it drops."""

    counts_drops = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._receiver = UdpReceiver(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._receiver, name)


def test_a_kernel_that_does_not_count_drops_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    with run(config()) as driver:
        assert "not counted" not in driver.log
    monkeypatch.setattr(server, "UdpReceiver", Uncounted)
    with run(config()) as driver:
        assert driver.log.count("not counted") == 1
        send(driver, b"x")
        driver.wait_for_events(1)


def test_a_port_is_shared_only_where_both_say_so() -> None:
    with run(config("reuse_port true")) as one:
        port = one.plugin("in_udp").bound_port
        with pytest.raises(OSError, match="in use"):
            run(config().replace("port 0", f"port {port}"))
        with run(config("reuse_port true").replace("port 0", f"port {port}")) as two:
            send(one, *[b"x"] * 100)  # one sender: all go to one of the two
            one.wait_for(lambda: len(one.events()) + len(two.events()) == 100)


def test_ipv6() -> None:
    text = config("source_address_key a").replace("127.0.0.1", "::1")
    try:
        driver = run(text)
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    with driver, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("::1", driver.plugin("in_udp").bound_port))
        assert driver.wait_for_events(1)[0].record == {"message": "x", "a": "::1"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (config("port 70000"), "70000 is no port"),
        (config("message_length_limit 0"), "at least 1 byte"),
        (config(sections="<transport tcp>\n</transport>"), "udp"),
        ("<source>\n@type udp\ntag t\n</source>", "<parse>"),
        ("<source>\n@type udp\n<parse>\n@type none\n</parse>\n</source>", "tag"),
    ],
)
def test_wrong_configurations_are_refused(text: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        run(text, start=False)

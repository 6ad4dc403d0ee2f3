"""Hostile senders against a running process: nothing crashes or hangs, and good messages all arrive."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forwarder_process import ForwarderProcess, free_port
from waiting import PATIENCE

SOURCES = r"""
<source>
  @type udp
  port {none}
  tag none
  message_length_limit 64k
  <parse>
    @type none
  </parse>
</source>
<source>
  @type udp
  port {json}
  tag json
  message_length_limit 64k
  <parse>
    @type json
  </parse>
</source>
<source>
  @type udp
  port {regexp}
  tag regexp
  message_length_limit 64k
  <parse>
    @type regexp
    expression /^(?:(?<message>ok \d+)|(?<bomb>(a+)+)|(?<other>(\w|\w\w)*\s))$/
  </parse>
</source>
<source>
  @type udp
  port {grok}
  tag grok
  message_length_limit 64k
  <parse>
    @type grok
    grok_pattern ^(?:(?<message>ok \d+)|%{{COMBINEDAPACHELOG}}|%{{URI}} %{{QS}} %{{IPV6}})$
  </parse>
</source>
<source>
  @type syslog
  port {syslog}
  tag syslog
  message_length_limit 64k
  emit_unmatched_lines true
  <parse>
    @type syslog
    message_format auto
    with_priority true
  </parse>
</source>
<source>
  @type tcp
  port {tcp}
  tag tcp
  message_length_limit 1k
  <parse>
    @type none
  </parse>
</source>
<source>
  @type syslog
  port {octets}
  tag octets
  frame_type octet_count
  <transport tcp>
  </transport>
  <parse>
    @type none
  </parse>
</source>
<source>
  @type tcp
  port {tls}
  tag tls
  <transport tls>
    cert_path {cert}
    private_key_path {key}
  </transport>
  <parse>
    @type json
  </parse>
</source>
<match fluent.**>
  @type null
</match>
<match **>
  @type stdout
</match>
"""
INPUTS = ("none", "json", "regexp", "grok", "syslog", "tcp", "octets", "tls")


class Forwarder(ForwarderProcess):
    """An input of each kind, and what comes out of it."""

    def __init__(self, folder: Path, certificates: Any) -> None:
        self.ports = {name: free_port() for name in INPUTS}
        config = SOURCES.format(cert=certificates.cert, key=certificates.key, **self.ports)
        super().__init__(folder, config.replace("  port", "  bind 127.0.0.1\n  port"))
        self._sent = 0

    def printed(self, what: str) -> bool:
        return what.encode() in self.output.read_bytes()

    def connect(self, name: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[name]), timeout=PATIENCE)

    def neighbour(self, name: str) -> None:
        """One good message to the same input; returns when it came out."""
        self._sent += 1
        text = f"ok {self._sent}"
        good = {
            "json": json.dumps({"message": text}),
            "tls": json.dumps({"message": text}) + "\n",
            "syslog": f"<13>Sep 11 00:00:00 host app: {text}",
            "tcp": f"{text}\n",
            "octets": f"{len(text) + 4} <13>{text}",
        }.get(name, text)
        if name in ("tcp", "octets", "tls"):
            with self.connect(name) as plain:
                stream = plain
                if name == "tls":
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                    stream = context.wrap_socket(plain)
                stream.sendall(good.encode())
                self.wait(lambda: self.printed(f'"message":"{text}"'))
                stream.close()
            return
        self.datagram(name, good.encode())
        self.wait(lambda: self.printed(f'"message":"{text}"'))

    def datagram(self, name: str, data: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(data, ("127.0.0.1", self.ports[name]))

    def end(self) -> None:
        """A graceful stop, and what the log must not have."""
        assert self.stop() == 0, self.log
        for word in ("Traceback", "panicked"):
            assert word not in self.log


@pytest.fixture(scope="module")
def forwarder(tmp_path_factory: pytest.TempPathFactory, certificates: Any) -> Iterator[Forwarder]:
    running = Forwarder(tmp_path_factory.mktemp("hostile"), certificates)
    with running:
        yield running
        running.end()


def texts() -> dict[str, list[bytes]]:
    """Datagrams that no parser likes, by kind."""
    noise = random.Random(7)
    largest = 65_507
    return {
        "every byte": [bytes([byte]) * 600 for byte in range(256)],
        "largest": [bytes([byte]) * largest for byte in b"\0\n \"'(<[\\a{\x7f\x80\xc3\xed\xff"],
        "random": [noise.randbytes(noise.randrange(2000)) for _ in range(100)],
        "broken UTF-8": [
            b"\xc0\x80",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"ok\xff",
            b"\xe2\x82",
            b"\xfe\xff",
        ],
        "nuls": [b"", b"\0", b"\0ok 1", b"ok\0 1", b"<13>\0", b'{"a\0":"\0"}'],
        "deep": [open * n for open in (b"[", b'{"a":', b'[{"":', b"((", b"<1>") for n in (100, 5000)],
        "numbers": [
            b'{"a":' + b"9" * 60_000 + b"}",
            b'{"a":1e' + b"9" * 300 + b"}",
            b"<" + b"9" * 60_000 + b">x",
        ],
        "keys": [
            b"{" + b",".join(b'"%d":0' % n for n in range(7000)) + b"}",
            b'{"' + b"\\u0000" * 9000 + b'":1}',
        ],
        "bombs": [
            b"a" * 40 + b"b",
            b"a" * 30_000 + b"b",
            b"x" * 60 + b"!",
            b'"' + b"\\" * 30_000,
            b":" * 30_000,
        ],
        "addresses": [b"http://" + b"a." * 20_000, b"1:" * 20_000 + b"%", (b"1.1.1.1 - - [" + b"1/" * 9000)],
    }


@pytest.mark.parametrize("kind", texts())
@pytest.mark.parametrize("name", ["none", "json", "regexp", "grok", "syslog"])
def test_datagrams(forwarder: Forwarder, name: str, kind: str) -> None:
    for index, text in enumerate(texts()[kind]):
        forwarder.datagram(name, text)
        if index % 32 == 31:
            forwarder.neighbour(name)  # so that the socket's buffer never overflows
    forwarder.neighbour(name)


@pytest.mark.parametrize("name", ["tcp", "octets", "tls"])
def test_streams(forwarder: Forwarder, name: str) -> None:
    noise = random.Random(8)
    reset = struct.pack("ii", 1, 0)
    with forwarder.connect(name) as silent, forwarder.connect(name) as slow:
        for data in [
            b"",
            noise.randbytes(5000),
            b"\0" * 5000,
            b"x" * (1 << 20),
            b"\n" * 5000,
            b"999999999999999999999999 x",
            b"16777215 x",
            b"-1 x",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise.randbytes(400),
            b"\x16\x03\x01\xff\xff" + noise.randbytes(9000),
        ]:
            for abort in (False, True):
                with forwarder.connect(name) as bad:
                    with contextlib.suppress(OSError):  # refused halfway
                        bad.sendall(data)
                    if abort:
                        bad.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            with contextlib.suppress(OSError):  # no TLS client: refused at its first byte
                slow.sendall(b"1")
        forwarder.neighbour(name)
        with contextlib.suppress(OSError):
            silent.sendall(b"5 ")
    forwarder.neighbour(name)


def test_a_slow_sender_is_understood(forwarder: Forwarder) -> None:
    with forwarder.connect("tcp") as slow, forwarder.connect("octets") as counted:
        for byte in b"drop by drop":
            slow.sendall(bytes([byte]))
        for byte in b"16 <13>byte by byte":
            counted.sendall(bytes([byte]))
        forwarder.neighbour("tcp")
        slow.sendall(b"\n")
        forwarder.wait(lambda: forwarder.printed('"message":"drop by drop"'))
        forwarder.wait(lambda: forwarder.printed('"message":"byte by byte"'))

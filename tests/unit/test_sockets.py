"""Sockets: bound once, kept over several engines, given back."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from forwarder._native import Ingestor, UdpReceiver, python_parser
from forwarder.api.sockets import Binding, OwnKeeper, Sockets


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def test_the_next_engine_gets_the_same_socket() -> None:
    keeper, port = OwnKeeper(), free_port()
    first = Sockets(keeper).bind(Binding("tcp", "127.0.0.1", port))
    first.close()
    with socket.create_connection(("127.0.0.1", port)) as client:  # while no engine listens
        second = Sockets(keeper).bind(Binding("tcp", "127.0.0.1", port))
        accepted, address = second.socket.accept()
        assert address == client.getsockname()
        accepted.close()
    second.close()
    keeper.retain({f"tcp:127.0.0.1:{port}"})
    socket.create_connection(("127.0.0.1", port)).close()
    keeper.retain(set())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_two_inputs_share_a_port_only_with_reuse_port() -> None:
    sockets, port = Sockets(), free_port()
    sockets.bind(Binding("udp", "127.0.0.1", port)).close()
    with pytest.raises(OSError, match="in use by another input: udp:"):
        sockets.bind(Binding("udp", "127.0.0.1", port))
    sockets.close()
    two = [sockets.bind(Binding("udp", "127.0.0.1", port, reuse_port=True)) for _ in range(2)]
    assert len({os.fstat(each.socket.fileno()).st_ino for each in two}) == 2
    for each in two:
        each.close()
    sockets.close()


def test_a_port_that_the_kernel_chooses_is_new_each_time() -> None:
    sockets = Sockets()
    one, two = (sockets.bind(Binding("tcp", "127.0.0.1")) for _ in range(2))
    assert one.port != two.port
    assert sockets.keys == set()
    one.close()
    two.close()


def test_what_is_kept_obeys_the_present_configuration() -> None:
    keeper, port = OwnKeeper(), free_port()
    Sockets(keeper).bind(Binding("udp", "127.0.0.1", port, receive_buffer_size=8192)).close()
    again = Sockets(keeper).bind(Binding("udp", "127.0.0.1", port, receive_buffer_size=65536))
    assert again.receive_buffer_size == 65536
    again.close()
    keeper.retain(set())


def test_the_file_of_a_unix_socket_goes_with_the_last_engine(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "socket"
    keeper = OwnKeeper()
    for _ in range(2):
        bound = Sockets(keeper).bind(Binding("unix", str(path), dir_permission=0o700))
        bound.close()
        assert path.is_socket()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    keeper.retain(set())
    assert not path.exists()
    Sockets(keeper).bind(Binding("unix", str(path))).close()
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        keeper.retain(set())
        assert path.is_socket()


def test_every_kernel_drop_is_told_once_over_receivers_that_follow_each_other() -> None:
    """received + dropped == sent, where one receiver leaves its socket to the next."""
    keeper, port, sent = OwnKeeper(), free_port(), 4000
    parser = python_parser(lambda text: [(None, {"message": text.decode()})])
    received = dropped = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        for turn in range(4):
            sockets = Sockets(keeper)
            bound = sockets.bind(Binding("udp", "127.0.0.1", port, receive_buffer_size=1))
            ingestor = Ingestor(parser, "t")
            receiver = UdpReceiver(
                ingestor, bound.socket.fileno(), message_length_limit=99, drops=bound.drops
            )
            bound.close()
            for number in range(sent // 4):
                sender.send(b"%d" % number)
                if number == 500 and turn % 2 and (intake := receiver.next(0)):
                    received += intake.received
                    dropped += intake.kernel_drops
            receiver.stop(keep=turn < 3)
            while not receiver.finished:
                if (intake := receiver.next(0)) is not None:
                    received += intake.received
                    dropped += intake.kernel_drops
    keeper.retain(set())
    assert dropped > 0
    assert received + dropped == sent

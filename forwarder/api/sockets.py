"""Sockets that inputs listen on: bound here and nowhere else, and kept by what outlives the input.

An input says what it wants (`Binding`) and asks `Context.bind`. It gets a descriptor of its own, which it
closes at its end; the process's `Sockets` keep another one, so that the kernel goes on taking datagrams and
connections while one engine follows another.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from threading import Lock
from typing import Final, NamedTuple, Protocol

from forwarder.api.files import make_folders

DEFAULT_BACKLOG: Final = 1024
MAX_UNIX_PATH_BYTES: Final = 107
"""Longest path of a Unix-domain socket (`sun_path`, unix(7))."""
_PAGE_BYTES: Final = 4096
_KINDS: Final = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM, "unix": socket.SOCK_STREAM}
_SO_RCVBUFFORCE: Final = 33
"""asm-generic/socket.h; beyond `net.core.rmem_max` where this process may."""
_SO_DETACH_FILTER: Final = 27
"""asm-generic/socket.h."""


class Binding(NamedTuple):
    """What an input wants to listen on."""

    kind: str
    """"udp", "tcp" or "unix"."""
    address: str
    """An address or host name; the path for "unix"."""
    port: int = 0
    """0: the kernel chooses, anew each time."""
    backlog: int = DEFAULT_BACKLOG
    """Connections that may wait to be accepted."""
    receive_buffer_size: int | None = None
    """To ask the kernel for, in bytes; connections inherit it. None: the kernel's own."""
    reuse_port: bool = False
    """SO_REUSEPORT: others may bind the same port if they say so too."""
    dir_permission: int = 0o755
    """Mode of folders that are made for the path."""

    @property
    def key(self) -> str:
        """The same for bindings that can be the same socket; empty: it is never the same."""
        if self.kind == "unix":
            return f"unix:{os.path.abspath(self.address)}"
        return f"{self.kind}:{self.address}:{self.port}{'+' * self.reuse_port}" if self.port else ""


class Bound(NamedTuple):
    """A bound socket that does not block; "tcp" and "unix" listen already. The caller closes it."""

    socket: socket.socket
    drops: int | None = None
    """For "udp": a file whose memory says how many of the socket's drops are in somebody's books."""
    file: tuple[int, int] | None = None
    """For "unix": device and inode of the file."""
    replaced: bool = False
    """For "unix": there was a file of an earlier socket."""

    def close(self) -> None:
        """Closes what this process has of it."""
        self.socket.close()
        if self.drops is not None:
            os.close(self.drops)

    def copy(self) -> Bound:
        """Descriptors of its own for the same socket."""
        drops = None if self.drops is None else os.dup(self.drops)
        return self._replace(socket=self.socket.dup(), drops=drops)

    @property
    def port(self) -> int:
        """The bound port; 0 for a Unix-domain socket."""
        name = self.socket.getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    @property
    def receive_buffer_size(self) -> int:
        """What the kernel granted, in the unit in which it is asked (it reports twice that)."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


class Keeper(Protocol):
    """What keeps sockets over the life of an engine."""

    def take(self, key: str) -> Bound | None:
        """Descriptors of the socket that is kept as `key`; None: none is, and the caller shall `keep` one, or
        `give_up`."""

    def keep(self, key: str, bound: Bound) -> None:
        """Keeps a socket, with descriptors of its own."""

    def give_up(self, key: str) -> None:
        """It could not be bound."""


class OwnKeeper:
    """Keeps sockets in this process."""

    def __init__(self) -> None:
        self._kept: dict[str, Bound] = {}

    def take(self, key: str) -> Bound | None:
        """As `Keeper`."""
        kept = self._kept.get(key)
        return None if kept is None else kept.copy()

    def keep(self, key: str, bound: Bound) -> None:
        """As `Keeper`."""
        self._kept[key] = bound.copy()

    def give_up(self, key: str) -> None:
        """As `Keeper`."""

    def retain(self, keys: set[str]) -> None:
        """Closes all others."""
        for key in [key for key in self._kept if key not in keys]:
            discard(key, self._kept.pop(key))


class Sockets:
    """The sockets of one engine."""

    def __init__(self, keeper: Keeper | None = None) -> None:
        self._own = OwnKeeper() if keeper is None else None
        self._keeper: Keeper = self._own or keeper  # type: ignore[assignment]
        self._lock = Lock()
        self.keys: set[str] = set()
        """Of all sockets that were asked for."""

    @property
    def shared(self) -> bool:
        """Whether something outside of the engine keeps the sockets."""
        return self._own is None

    def bind(self, binding: Binding) -> Bound:
        """The socket, as it was kept, or bound now.

        Raises:
            OSError: it cannot be had, or this engine has it already.
        """
        key = binding.key
        if not key:
            return bind(binding)
        with self._lock:
            number = 1
            while key in self.keys:
                if not binding.reuse_port:
                    raise OSError(
                        errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)} by another input: {key}"
                    )
                number += 1
                key = f"{binding.key}#{number}"
            bound = self._keeper.take(key)
            if bound is None:
                try:
                    bound = bind(binding)
                except OSError:
                    self._keeper.give_up(key)
                    raise
                self._keeper.keep(key, bound)
            else:
                adjust(bound.socket, binding)
            self.keys.add(key)
            return bound

    def close(self) -> None:
        """Before the engine stops for good: nobody else takes up the sockets."""
        if self._own is not None:
            self._own.retain(set())


def bind(binding: Binding) -> Bound:
    """Binds, and listens where that is the way of its kind.

    Raises:
        OSError: the address cannot be had.
    """
    kind = _KINDS[binding.kind]
    family: int
    address: tuple[object, ...] | str
    replaced = False
    if binding.kind == "unix":
        family, address = socket.AF_UNIX, os.path.abspath(binding.address)
        replaced = _make_way(address, binding.dir_permission)
    else:
        family, address = _resolve(binding.address, binding.port, kind)
    made = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if binding.kind == "tcp":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if binding.reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
        adjust(made, binding)
        if isinstance(address, str):
            return Bound(made, file=_file(address), replaced=replaced)
        return Bound(made, _shared_number() if binding.kind == "udp" else None)
    except OSError:
        made.close()
        raise


def adjust(bound: socket.socket, binding: Binding) -> None:
    """Sets what can be set on a bound socket too."""
    if binding.receive_buffer_size is not None:
        asked = min(binding.receive_buffer_size, 2**30 - 1)
        try:
            bound.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, asked)
        except OSError:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, asked)
    if binding.kind != "udp":
        bound.listen(binding.backlog)
        return
    with suppress(OSError):  # a receiver that died during its stop has left its filter, which lets nothing in
        bound.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def discard(key: str, bound: Bound) -> None:
    """Closes a kept socket; a Unix-domain socket's file goes too, unless it is another one now."""
    if bound.file is not None:
        path = key.partition(":")[2]
        with suppress(OSError):
            if _file(path) == bound.file:
                os.unlink(path)
    bound.close()


def _file(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _resolve(host: str, port: int, kind: int) -> tuple[int, tuple[object, ...]]:
    """Family and address of an address or host name; an IPv6 address may stand in brackets."""
    host = host.removeprefix("[").removesuffix("]")
    family, _, _, _, address = socket.getaddrinfo(host, port, type=kind)[0]
    return family, address


def _make_way(path: str, dir_permission: int) -> bool:
    """Makes the folder of a socket's file; removes an earlier socket, and says whether there was one."""
    try:
        existing = os.lstat(path)
    except FileNotFoundError:
        make_folders(os.path.dirname(path), dir_permission)
        return False
    if not stat.S_ISSOCK(existing.st_mode):
        raise FileExistsError(errno.EEXIST, f"{path} is there already and is no socket")
    os.unlink(path)
    return True


def _shared_number() -> int | None:
    """A page of zeroes in memory that other processes can share."""
    try:
        number = os.memfd_create("forwarder-drops", os.MFD_CLOEXEC)
    except OSError:
        return None
    os.ftruncate(number, _PAGE_BYTES)
    return number

"""What is set once for a process: its user, its name, whether it runs in the background."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from forwarder.runtime.options import Options


def give_up_privileges(options: Options) -> None:
    """`--umask`, `--chroot`, `--group`, `--user`, before a plugin opens anything, as in Fluentd.

    Raises:
        OSError: no right to. KeyError: there is no such user or group.
    """
    if options.umask is not None:
        os.umask(options.umask)
    user, group = options.user, options.group
    if user is None and group is None:
        if options.chroot is not None:
            _chroot(options.chroot)
        return
    import grp  # noqa: PLC0415 - rarely asked for
    import pwd  # noqa: PLC0415

    entry = None if user is None else pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    number = None
    if group is not None:
        number = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    elif entry is not None:
        number = entry.pw_gid
    if options.chroot is not None:
        _chroot(options.chroot)
    if number is not None:
        os.setgid(number)
    if entry is not None:
        os.initgroups(entry.pw_name, os.getgid())
        os.setuid(entry.pw_uid)


def _chroot(folder: str) -> None:
    os.chroot(folder)
    os.chdir("/")


def set_name(name: str) -> None:
    """Sets what `ps -o comm` shows. The kernel keeps 15 bytes."""
    with suppress(OSError), open("/proc/self/comm", "w", encoding="utf-8") as file:
        file.write(name)


def in_background(pid_file: str) -> Callable[[], None]:
    """Goes on in a process of its own session, whose number is in `pid_file`. The process that was started
    waits, and ends with 0 once the returned function is called, or with 1 if that never happens.

    Raises:
        OSError: the file cannot be written.
    """
    with open(pid_file, "a", encoding="ascii"):
        pass  # before anybody goes into the background
    told, tell = os.pipe2(os.O_CLOEXEC)
    if os.fork():
        os.close(tell)
        os._exit(0 if os.read(told, 1) else 1)
    os.close(told)
    os.setsid()
    if os.fork():
        os._exit(0)
    with open(pid_file, "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")

    def running() -> None:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                os.dup2(nothing, stream.fileno())
        os.close(nothing)
        with suppress(OSError):
            os.write(tell, b"\1")
            os.close(tell)

    return running

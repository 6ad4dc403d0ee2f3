"""The supervisor: starts workers, starts them again when they die, and keeps their sockets open meanwhile.

It knows nothing of configurations: it forks, and the worker reads the file and says what it needs (how many
workers there are, where the log goes). Workers of one reading of the configuration are a *generation*. A
reload starts a new generation beside the old one; when every worker of it has read and checked its part,
the old one hands over:

- where nothing has files of its own (memory buffers), the new one starts first, then the old one stops;
- else the old one lets go of its files first, within milliseconds, and the new one starts then. Should it
  fail, the old one starts again with the configuration that it still has.

Signals: SIGTERM and SIGINT stop gracefully, a second one at once; SIGHUP and SIGUSR2 reload; SIGUSR1
flushes all buffers and reopens the log; SIGWINCH ends the source-only mode.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from forwarder.runtime.channel import Channel, Message
from forwarder.runtime.kept import KeptSockets
from forwarder.runtime.notify import Notifier
from forwarder.runtime.options import Options
from forwarder.runtime.signals import Signals

if TYPE_CHECKING:
    from forwarder.runtime.own_log import OwnLog

_SIGNALS: Final = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
    signal.SIGCHLD,
)  # fmt: skip
_GRACE_SECONDS: Final = 5.0
"""How much longer than its own limit a worker's stop may take."""
_LONGEST_PAUSE: Final = 30.0
"""Between two starts of a worker that dies again and again."""
_STABLE_SECONDS: Final = 60.0
"""A worker that has lived so long is started again at once."""


class Worker:
    """A worker process as the supervisor sees it. `state`: "building", "built", "starting", "running",
    "releasing", "released", "leaving" (told to end)."""

    def __init__(
        self, number: int, generation: Generation, pid: int, commands: Channel, sockets: Channel
    ) -> None:
        self.number = number
        self.generation = generation
        self.pid = pid
        self.commands = commands
        self.sockets = sockets
        self.state = "building"
        self.started = time.monotonic()
        self.deadline: float | None = None
        """When it is killed; None: never."""
        self.answers = True
        """To the watchdog, since it was asked last."""


class Generation:
    """The workers of one reading of the configuration."""

    def __init__(self) -> None:
        self.count = 0
        """0: not known yet."""
        self.overlaps = False
        self.settings: Message = {}
        self.workers: dict[int, Worker] = {}
        self.failures: dict[int, int] = {}
        """By worker: how often it has died in short order."""
        self.restarts: dict[int, float] = {}
        """By worker: when it is started again."""

    def all(self, *states: str) -> bool:
        """Whether all workers are there, in one of these states."""
        return bool(self.count) and self.count == len(
            [worker for worker in self.workers.values() if worker.state in states]
        )


class Supervisor:
    """One per process; `run` does it all."""

    def __init__(
        self, options: Options, work: Callable[[Options, int, Channel, Channel], int],
        on_running: Callable[[], None],
    ) -> None:  # fmt: skip
        """`work`: what a forked worker does (`forwarder.runtime.supervised.work`). `on_running`: once."""
        self._options = options
        self._work = work
        self._on_running = on_running
        self._signals = Signals(_SIGNALS)
        self._sockets = KeptSockets()
        self._notifier = Notifier()
        self._log: OwnLog | None = None
        self._present = Generation()
        self._next: Generation | None = None
        self._leaving: list[Worker] = []
        self._asks_again = False
        self._was_running = False
        self._stopping: float | None = None
        """Until when workers may take to stop."""
        self._status = 0
        self._ping_at = time.monotonic()

    # ------------------------------------------------------------ the loop

    def run(self) -> int:
        """Gives the exit status: 0 after a graceful stop, 1 where the configuration cannot run."""
        self._fork(self._present, 0)
        while self._stopping is None or self._everybody():
            self._round()
        self._sockets.retain([])
        if self._was_running:
            self._info("stopped")
        return self._status

    def _round(self) -> None:
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        commands = {worker.commands.fileno(): worker for worker in self._everybody()}
        requests = {worker.sockets.fileno(): worker for worker in self._everybody()}
        for descriptor in (*commands, *requests):
            poll.register(descriptor, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(self._patience())]
        for descriptor in ready:
            worker = requests.get(descriptor)
            if worker is not None and worker in self._everybody() and not self._sockets.serve(worker.sockets):
                self._reap(worker)
        for descriptor in ready:
            worker = commands.get(descriptor)
            if worker is not None and worker in self._everybody():
                received = worker.commands.receive()
                if received is None:
                    self._reap(worker)
                else:
                    self._told(worker, received[0])
        if self._signals.fileno() in ready:
            for number in self._signals.read():
                self._signalled(number)
        self._look_at_clock()

    def _patience(self) -> int | None:
        """Milliseconds until something is due."""
        ends = [*self._present.restarts.values()]
        ends += [worker.deadline for worker in self._everybody() if worker.deadline is not None]
        if self._notifier.watchdog_seconds is not None:
            ends.append(self._ping_at)
        return None if not ends else max(0, int((min(ends) - time.monotonic()) * 1000) + 1)

    def _everybody(self) -> list[Worker]:
        workers = [*self._present.workers.values(), *self._leaving]
        return workers if self._next is None else [*workers, *self._next.workers.values()]

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        for worker in self._everybody():
            if worker.deadline is not None and worker.deadline <= now:
                self._warn("worker does not end in time: killed", worker=worker.number, worker_pid=worker.pid)
                self._kill(worker)
        for number in [number for number, at in self._present.restarts.items() if at <= now]:
            del self._present.restarts[number]
            self._fork(self._present, number)
        watchdog = self._notifier.watchdog_seconds
        if watchdog is not None and self._ping_at <= now:
            self._ping_at = now + watchdog / 3
            if all(worker.answers for worker in self._present.workers.values()):
                self._notifier.alive()
            for worker in self._present.workers.values():
                if worker.state in ("running", "released"):
                    worker.answers = False
                    worker.commands.send({"do": "ping"})

    # ------------------------------------------------------------ processes

    def _fork(self, generation: Generation, number: int) -> None:
        commands, worker_commands = Channel.pair()
        sockets, worker_sockets = Channel.pair()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self._signals.close()
                self._sockets.close()
                for worker in self._everybody():
                    worker.commands.close()
                    worker.sockets.close()
                commands.close()
                sockets.close()
                status = self._work(self._options, number, worker_commands, worker_sockets)
                sys.stdout.flush()
            finally:
                os._exit(status)
        worker_commands.close()
        worker_sockets.close()
        generation.workers[number] = Worker(number, generation, pid, commands, sockets)

    def _kill(self, worker: Worker) -> None:
        worker.deadline = None
        os.kill(worker.pid, signal.SIGKILL)

    def _reap(self, worker: Worker) -> None:
        """A worker has closed its channel: it is gone, or about to be."""
        pid, status = os.waitpid(worker.pid, os.WNOHANG)
        if not pid:
            os.kill(worker.pid, signal.SIGKILL)  # it cannot be reached any more
            _, status = os.waitpid(worker.pid, 0)
        self._sockets.gone(worker.sockets)
        worker.commands.close()
        worker.sockets.close()
        if worker in self._leaving:
            self._leaving.remove(worker)
        else:
            del worker.generation.workers[worker.number]
        if self._stopping is None and worker.state != "leaving":
            self._died(worker, os.waitstatus_to_exitcode(status))

    def _died(self, worker: Worker, status: int) -> None:
        if worker.generation is self._next:
            self._refuse(worker)
            return
        if not self._was_running:
            if status < 0:  # else it has said itself what is wrong
                why = f"signal {-status} ({signal.strsignal(-status)})"
                print(f"error: worker {worker.number} was ended by {why} before it ran", file=sys.stderr)
            self._status = 1
            self._stop_all(wait=False)
            return
        if worker.state in ("releasing", "released"):
            self._advance()  # it holds nothing any more; started again only if the reload fails
            return
        failures = 0
        if time.monotonic() - worker.started < _STABLE_SECONDS:
            failures = worker.generation.failures.get(worker.number, 0) + 1
        worker.generation.failures[worker.number] = failures
        pause = float(self._present.settings.get("restart_seconds", 0.0))
        if failures > 1:
            pause = max(pause, min(_LONGEST_PAUSE, 0.5 * 2.0 ** (failures - 2)))
        self._warn(
            "worker ended unexpectedly, it is started again", worker=worker.number, worker_pid=worker.pid,
            status=status, pause_seconds=pause,
        )  # fmt: skip
        self._present.restarts[worker.number] = time.monotonic() + pause

    # ------------------------------------------------------------ what workers say

    def _told(self, worker: Worker, message: Message) -> None:
        says = message["says"]
        if says == "alive":
            worker.answers = True
            return
        if says == "reload":  # over RPC
            self._reload()
            return
        if says == "stop":
            self._signalled(signal.SIGTERM)
            return
        worker.state = says
        generation = worker.generation
        if says == "running" and self._options.source_only is False:
            worker.commands.send({"do": "shift"})
        if says == "built" and worker.number == 0:
            if not generation.count:
                generation.count, generation.overlaps = message["workers"], message["overlaps"]
                generation.settings = message
                for number in range(1, generation.count):
                    self._fork(generation, number)
            if generation is self._present and not self._was_running:
                self._adopt(generation)
        self._advance()

    def _adopt(self, generation: Generation) -> None:
        """Follows what the configuration says about the process."""
        from forwarder.runtime.own_log import LogSettings, OwnLog  # noqa: PLC0415 - not before there is a log
        from forwarder.runtime.process import set_name  # noqa: PLC0415

        self._log = OwnLog(LogSettings(*generation.settings["log"]))
        if generation.settings["process_name"]:
            set_name(f"super:{generation.settings['process_name']}")

    def _advance(self) -> None:
        """Takes the next step that is possible now."""
        if self._stopping is not None:
            return
        present, following = self._present, self._next
        if not self._was_running:
            if present.all("built"):
                self._start(present, "first start")
            elif present.all("running"):
                self._was_running = True
                self._info("all workers are running", workers=present.count)
                self._on_running()
                self._notifier.ready("running")
            return
        for worker in present.workers.values():
            if worker.state == "built" and following is None:  # started again after its death
                worker.state = "starting"
                worker.commands.send({"do": "start"})
        if following is None:
            return
        if following.all("built"):
            if following.overlaps and present.overlaps:
                self._start(following)
                return
            waiting = [worker for worker in present.workers.values() if worker.state != "released"]
            for worker in waiting:
                if worker.state != "releasing":
                    worker.state = "releasing"
                    worker.commands.send({"do": "release"})
            if not waiting:
                self._start(following)
        elif following.all("running"):
            self._present, self._next = following, None
            self._leave(present)
            self._adopt(following)
            self._info("reloaded", workers=following.count)
            self._reload_ended()

    def _start(self, generation: Generation, how: str = "start") -> None:
        for worker in generation.workers.values():
            worker.state = "starting"
            worker.commands.send({"do": how})

    def _leave(self, generation: Generation) -> None:
        """The workers of a generation end, and leave their sockets and files to the next."""
        deadline = time.monotonic() + self._options.stop_seconds + _GRACE_SECONDS
        for worker in generation.workers.values():
            worker.state, worker.deadline = "leaving", deadline
            worker.commands.send({"do": "leave"})
            self._leaving.append(worker)
        generation.workers = {}
        present = [worker.sockets for worker in self._present.workers.values()]
        self._sockets.retain(present)

    # ------------------------------------------------------------ reload

    def _reload(self) -> None:
        if self._stopping is not None or not self._was_running:
            self._warn("not running yet, or not any more: no reload")
            return
        if self._next is not None:
            self._asks_again = True
            return
        self._info("reloading the configuration", config=self._options.config)
        self._notifier.reloading()
        self._next = Generation()
        self._fork(self._next, 0)

    def _refuse(self, worker: Worker) -> None:
        """A worker of the new generation has ended: the old generation goes on."""
        following = self._next
        assert following is not None
        was = worker.state
        for other in following.workers.values():
            other.state = "leaving"
            self._kill(other)
            self._leaving.append(other)
        following.workers = {}
        self._next = None
        for old in self._present.workers.values():
            if old.state in ("releasing", "released"):
                old.state = "starting"
                old.commands.send({"do": "resume"})
        for number in range(self._present.count):
            if number not in self._present.workers and number not in self._present.restarts:
                self._present.restarts[number] = time.monotonic()
        why = "its configuration cannot run" if was == "building" else "it could not start"
        self._error(f"reload failed: the new worker ended, {why}; the old configuration goes on")
        self._reload_ended()

    def _reload_ended(self) -> None:
        self._notifier.ready("running")
        if self._asks_again:
            self._asks_again = False
            self._reload()

    # ------------------------------------------------------------ signals

    def _signalled(self, number: int) -> None:
        if number == signal.SIGCHLD:
            return  # the end of its channel tells who
        if number in (signal.SIGTERM, signal.SIGINT):
            if self._signals.stopping:
                os.write(2, b"second signal: stopped at once\n")
                self._status = 1
                for worker in self._everybody():
                    self._kill(worker)
                return
            self._signals.stopping = True
            self._info("stopping", signal=signal.Signals(number).name)
            self._stop_all(wait=True)
        elif number == signal.SIGUSR1:
            if self._log is not None:
                self._log.reopen()
            self._info("flushing all buffers")
            for worker in self._present.workers.values():
                worker.commands.send({"do": "flush"})
        elif number == signal.SIGWINCH:
            if not self._present.settings.get("source_only"):
                return  # the terminal's window has changed its size
            # workers that are started from here on, also by a reload, are not in this mode
            self._options = self._options._replace(source_only=False)
            for worker in self._present.workers.values():
                if worker.state == "running":
                    worker.commands.send({"do": "shift"})
        else:
            self._reload()

    def _stop_all(self, *, wait: bool) -> None:
        self._notifier.stopping()
        self._stopping = time.monotonic() + self._options.stop_seconds + _GRACE_SECONDS
        self._present.restarts = {}
        self._sockets.retain([])
        for worker in self._everybody():
            worker.deadline = self._stopping
            worker.commands.send({"do": "stop"})
            if not wait or worker.state in ("building", "built"):
                self._kill(worker)

    # ------------------------------------------------------------ the log

    def _info(self, message: str, **fields: object) -> None:
        self._line("info", message, fields)

    def _warn(self, message: str, **fields: object) -> None:
        self._line("warning", message, fields)

    def _error(self, message: str, **fields: object) -> None:
        self._line("error", message, fields)

    def _line(self, level: str, message: str, fields: dict[str, object]) -> None:
        if self._log is not None:
            getattr(self._log.log.main, level)(message, **fields)


def run(options: Options) -> int:
    """Runs until a signal ends it; gives the exit status."""
    from forwarder.runtime.process import give_up_privileges, in_background  # noqa: PLC0415

    try:
        running = in_background(options.pid_file) if options.pid_file else lambda: None
        give_up_privileges(options)
    except (KeyError, OSError) as error:
        print(f"error: cannot change user, group, root or process: {error}", file=sys.stderr)
        return 1
    return Supervisor(options, _work, running).run()


def _work(options: Options, number: int, commands: Channel, sockets: Channel) -> int:
    from forwarder.runtime.supervised import work  # noqa: PLC0415 - the engine is the worker's alone

    return work(options, number, commands, sockets)

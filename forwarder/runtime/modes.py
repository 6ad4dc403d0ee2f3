"""What a process says when it runs and when it has stopped, and the end of its source-only mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forwarder.telemetry.log import LEVELS

if TYPE_CHECKING:
    from forwarder.core.engine import Engine
    from forwarder.runtime.worker import Loaded
    from forwarder.telemetry.log import Log


def say_running(engine: Engine, log: Log) -> None:
    """The line of the log that says that it runs, and how."""
    if engine.collecting:
        log.main.info("source-only mode: only the sources run, and events wait in files until SIGWINCH")
    log.main.info("forwarder is now running")


def shift(loaded: Loaded, engine: Engine) -> bool:
    """Ends the source-only mode, where it is on; a reload does not bring it back. False: what did not run
    cannot start, and nothing runs any more."""
    log = loaded.log
    if not engine.collecting:
        log.main.debug("not in source-only mode: nothing to end")
        return True
    log.main.info("the source-only mode ends")
    try:
        waited = engine.shift()
    except Exception as error:
        log.main.error(
            "cannot start what is behind the sources: the events wait for the next start", error=error
        )
        log.main.debug("the error", exc_info=error)
        return False
    log.main.info("all of the configuration runs", events_that_waited=waited)
    loaded.options = loaded.options._replace(source_only=False)
    return True


def log_balance(engine: Engine, log: Log) -> None:
    """The books of an engine that has stopped, as one line of the log: where everything went."""
    metrics = engine.metrics()
    totals = metrics.totals()
    lost: dict[str, int] = {}
    for (_, reason), count in metrics.lost().items():
        if reason != "filtered":
            lost[reason] = lost.get(reason, 0) + count
    missing = {} if not totals.in_flight else {"unaccounted": totals.in_flight}
    log.main.line(
        LEVELS["warn" if missing else "info"],
        "closing balance",
        {
            "received": totals.received, "added": totals.added, "recovered": totals.recovered,
            "delivered": totals.delivered, "buffered": totals.buffered, "filtered": totals.filtered,
            "lost": totals.lost + totals.rejected, **{f"lost_{name}": lost[name] for name in sorted(lost)},
            **missing,
        },
    )  # fmt: skip

"""`forwarder run`: runs a configuration, with Fluentd's flags where they make sense."""

from __future__ import annotations

import argparse

from forwarder import __version__
from forwarder.runtime.options import DEFAULT_CONFIG, Options, default_config

HELP = "run a configuration"
_LEVELS = ("trace", "debug", "info", "warn", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    add = parser.add_argument
    add("-c", "--config", metavar="FILE", default=default_config(),
        help=f"configuration file (default: FLUENT_CONF, or {DEFAULT_CONFIG})")  # fmt: skip
    add("-i", "--inline-config", metavar="TEXT", help="configuration text added to the file's")
    add("-p", "--plugin", metavar="DIR", action="append", default=[], help="folder of plugins")
    add("-o", "--log", metavar="FILE", help="log file instead of the standard error stream")
    add("-v", "--verbose", action="count", default=0, help="-v: debug, -vv: trace")
    add("-q", "--quiet", action="count", default=0, help="-q: warnings, -qq: errors only")
    add("--log-format", choices=("text", "json"), help="layout of a log line")
    add("--dry-run", action="store_true", help="check the configuration as far as possible, and end")
    add("--without-source", action="store_true", help="start without the sources")
    add("--with-source-only", action="store_true",
        help="start the sources only, and the rest at SIGWINCH; what comes waits in files")  # fmt: skip
    add("--enable-size-metrics", action="store_true", help="count bytes of events too")
    add("--strict-config-value", action="store_true", help="doubtful numbers are errors")
    add("--config-file-type", choices=("guess", "yaml", "yml"), default="guess",
        help="yaml: the configuration is YAML whatever its file is called")  # fmt: skip
    add("--emit-error-log-interval", type=float, metavar="SECONDS",
        help="pause between two summaries of what may happen for every event (default 10)")  # fmt: skip
    add("--suppress-repeated-stacktrace", type=_yes, nargs="?", const=True, metavar="BOOL",
        help="do not log the same stack trace again (default)")  # fmt: skip
    add("--umask", type=_octal, metavar="MODE", help="umask of the process, octal")
    add("--user", help="run as this user")
    add("--group", help="run as this group")
    add("--stop-timeout", type=float, default=None, metavar="SECONDS", help="longest stop (default 10)")
    add("--control-socket", metavar="PATH",
        help="control socket (default: PID.sock in a folder of the user's; none: no socket)")  # fmt: skip
    add("--chroot", metavar="DIR", help="change the root folder")
    add("--workers", type=_positive, metavar="N", help="worker processes, instead of <system> workers")
    add("-d", "--daemon", metavar="PIDFILE", help="run in the background, with the process's number there")
    add(
        "--log-rotate-age",
        type=_age,
        metavar="AGE",
        help="daily, weekly, monthly, or how many log files there may be",
    )
    add("--log-rotate-size", type=_positive, metavar="BYTES", help="log file size that starts a new file")
    add("--disable-shared-socket", action="store_true", help="workers bind sockets of their own")
    add("--log-event-verbose", action="store_true", help="own log lines of the stop become events too")
    add("--conf-encoding", metavar="NAME", default="utf-8-sig",
        help="encoding of the configuration file; what it includes is UTF-8")  # fmt: skip
    for name in ("--use-v1-config", "--enable-input-metrics", "--disable-input-metrics"):
        add(name, action="store_true", help="accepted, no effect")
    for names, word in (
        (("-I",), "PATH"), (("-r",), "NAME"), (("-g", "--gemfile"), "FILE"), (("-G", "--gem-path"), "PATH"),
    ):  # fmt: skip
        add(*names, metavar=word, help="accepted, no effect: there is no Ruby")
    add("--version", action="version", version=f"forwarder {__version__}")
    add("--no-supervisor", action="store_true", help="one process, as in a container")
    add("--under-supervisor", action="store_true", help=argparse.SUPPRESS)
    add("--suppress-config-dump", action="store_true", help="accepted: the configuration is never logged")


def run(args: argparse.Namespace) -> int:
    """Runs until a signal; gives the exit status."""
    level = None
    if args.verbose or args.quiet:
        level = _LEVELS[max(0, min(4, 2 - args.verbose + args.quiet))]
    options = Options(
        config=args.config,
        inline=args.inline_config,
        plugin_dirs=tuple(args.plugin),
        log_path=args.log,
        log_level=level,
        log_json=None if args.log_format is None else args.log_format == "json",
        dry_run=args.dry_run,
        without_source=args.without_source,
        source_only=args.with_source_only or None,
        encoding=args.conf_encoding,
        sizes=args.enable_size_metrics,
        log_event_verbose=args.log_event_verbose,
        strict=args.strict_config_value,
        yaml=args.config_file_type != "guess",
        repeat_seconds=args.emit_error_log_interval,
        traces_once=args.suppress_repeated_stacktrace,
        umask=args.umask,
        user=args.user,
        group=args.group,
        chroot=args.chroot,
        workers=args.workers,
        pid_file=args.daemon,
        log_rotate_age=args.log_rotate_age,
        log_rotate_size=args.log_rotate_size,
        shares_sockets=not args.disable_shared_socket,
        supervised=not (args.no_supervisor or args.under_supervisor),
        control_socket=args.control_socket,
    )
    if args.stop_timeout is not None:
        options = options._replace(stop_seconds=args.stop_timeout)
    if options.supervised and not options.dry_run:
        from forwarder.runtime import supervisor  # noqa: PLC0415 - which does without the engine

        return supervisor.run(options)
    from forwarder.runtime import worker  # noqa: PLC0415

    return worker.run(options)


def _octal(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an octal number such as 0022, not {text!r}") from None


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, not {text!r}")
    return int(text)


def _age(text: str) -> str:
    if text not in ("daily", "weekly", "monthly") and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected daily, weekly, monthly or a number, not {text!r}")
    return text


def _yes(text: str) -> bool:
    if text not in ("true", "yes", "false", "no"):
        raise argparse.ArgumentTypeError(f"expected true or false, not {text!r}")
    return text in ("true", "yes")

"""`forwarder COMMAND`: finds the command, imports its module, and nothing else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Final, Protocol, cast

from forwarder import __version__

COMMANDS: Final = {
    "run": ("forwarder.cli.run", "run a configuration"),
    "buffer": ("forwarder.cli.buffer", "look into file buffers; export, retry and drop chunks"),
    "check": ("forwarder.cli.check", "check a configuration without running it"),
    "convert": ("forwarder.cli.convert", "convert a configuration between fluent.conf and YAML"),
    "cat": ("forwarder.cli.cat", "send standard input as events"),
    "grok": ("forwarder.cli.grok", "try grok patterns on text"),
    "new": ("forwarder.cli.new", "make a package for a plugin of your own"),
    "schema": ("forwarder.cli.schema", "print a JSON schema of the YAML form, for editors"),
    "replay": (
        "forwarder.cli.replay",
        "bring archived logs back, into a configuration or to standard output",
    ),
    "snapshot": (
        "forwarder.cli.snapshot",
        "back up a cluster's indices into an S3-compatible store, and restore them",
    ),
    "status": ("forwarder.cli.status", "show the books, buffers and retries of running instances"),
    "plugins": ("forwarder.cli.plugins", "list the plugins, or show the reference of one"),
}
"""By command: its module (`HELP`, `add_arguments(parser)`, `run(args) -> int`), and a line of help."""


class Command(Protocol):
    """What a sub-command's module offers."""

    HELP: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def main(argv: list[str] | None = None) -> int:
    """Runs a command line; gives the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in COMMANDS:
        return _command(words[0], words[1:])
    if words and words[0].startswith("-") and words[0] not in ("-h", "--help", "--version", "-V", "--"):
        return _command("run", words)  # `forwarder -c fluent.conf`, as one starts Fluentd
    parser = _parser()
    parser.parse_args(words)
    parser.print_help()
    return 2


def _command(name: str, words: list[str]) -> int:
    module = cast(Command, import_module(COMMANDS[name][0]))
    parser = argparse.ArgumentParser(prog=f"forwarder {name}", description=module.HELP)
    module.add_arguments(parser)
    args = parser.parse_args(words)
    from forwarder.api.errors import ForwarderError  # noqa: PLC0415 - `--help` does without

    try:
        return module.run(args)
    except ForwarderError as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone. Python would complain when it flushes at exit.
        sys.stdout = None
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="forwarder", description="A Fluentd-compatible log forwarder.",
        epilog="Without a command, options go to run: forwarder -c fluent.conf",
    )  # fmt: skip
    parser.add_argument("-V", "--version", action="version", version=f"forwarder {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""`forwarder convert`: fluent.conf to YAML, and YAML to fluent.conf."""

from __future__ import annotations

import argparse
import os
import sys

from forwarder.api.errors import ConfigError
from forwarder.config.reader import read_text

HELP = "convert a configuration between fluent.conf and YAML, comments included"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("file", metavar="FILE", help="configuration; .yaml and .yml are YAML")
    parser.add_argument(
        "--to", choices=("yaml", "conf"), help="the form that is wanted (default: the other one)"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write instead of standard output")


def run(args: argparse.Namespace) -> int:
    """Writes the other form; what one should know goes to standard error."""
    try:
        from forwarder.config.convert import to_conf, to_yaml  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise ConfigError("YAML needs PyYAML: pip install 'forwarder[yaml]'") from error

    from_yaml = args.file.endswith((".yaml", ".yml"))
    wanted = args.to or ("conf" if from_yaml else "yaml")
    text = read_text(args.file)
    if from_yaml == (wanted == "yaml"):
        raise ConfigError(f"{args.file} is in this form already")
    done = (to_conf if wanted == "conf" else to_yaml)(text, args.file)
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    if args.output is None:
        sys.stdout.write(done.text)
        return 0
    if os.path.exists(args.output):
        raise ConfigError(f"{args.output} exists already")
    with open(args.output, "w", encoding="utf-8") as file:
        file.write(done.text)
    return 0

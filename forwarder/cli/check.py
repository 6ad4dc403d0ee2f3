"""`forwarder check`: everything that is wrong with a configuration, at once, without running it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from forwarder.api.errors import ConfigError
from forwarder.config.advice import advise
from forwarder.config.diagnostics import Diagnostic, Diagnostics
from forwarder.config.element import Element
from forwarder.config.reader import add_include_dir, load
from forwarder.config.render import render
from forwarder.config.structure import read_structure
from forwarder.core.build import build
from forwarder.core.registry import Registry
from forwarder.runtime.options import default_config

HELP = "check a configuration without running it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="configuration file")
    parser.add_argument("-c", "--config", metavar="FILE", help="the same, as for run")
    parser.add_argument(
        "-p", "--plugin", metavar="DIR", action="append", default=[], help="folder of plugins"
    )
    parser.add_argument("--strict", action="store_true", help="warnings fail too")
    parser.add_argument(
        "--dump", action="store_true", help="print the effective configuration, secrets masked"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints all findings; 1 if there are errors (with --strict: or warnings), else 0."""
    path = args.file or args.config or default_config()
    diagnostics = Diagnostics()
    root = check(path, diagnostics, plugin_folders=args.plugin)
    if args.json:
        print(json.dumps([_plain(item) for item in diagnostics.items], indent=2, ensure_ascii=False))
    else:
        if args.dump and root is not None:
            print(render(root))
        text = diagnostics.render()
        print(f"{text}\n\n{_summary(path, diagnostics)}" if text else _summary(path, diagnostics))
    return 1 if diagnostics.errors or (args.strict and diagnostics.warnings) else 0


def check(path: str, diagnostics: Diagnostics, *, plugin_folders: list[str] | None = None) -> Element | None:
    """Reads and builds a configuration without starting it; findings go to `diagnostics`.

    Returns:
        The element tree, or None where the text is no configuration.
    """
    root: Element | None = None
    try:
        root = load(path, diagnostics)
        add_include_dir(root, diagnostics)
        structure = read_structure(root, diagnostics)
        registry = Registry()
        for folder in plugin_folders or ():
            registry.add_directory(folder)
        advise(structure, diagnostics)
        build(root, diagnostics=diagnostics, structure=structure, registry=registry, check_only=True)
    except ConfigError as error:
        diagnostics.exception(error)
    return root


def _summary(path: str, diagnostics: Diagnostics) -> str:
    counts = [(len(diagnostics.errors), "error"), (len(diagnostics.warnings), "warning")]
    found = [f"{count} {word}{'s' * (count != 1)}" for count, word in counts if count]
    return f"{path}: {', '.join(found) or 'no problems'}"


def _plain(item: Diagnostic) -> dict[str, Any]:
    position = item.position
    return {
        "severity": item.severity,
        "message": item.message,
        "file": None if position is None else position.source.path,
        "line": None if position is None else position.line,
        "column": None if position is None else position.column,
        "section": item.section,
        "param": item.param,
        "hint": item.hint,
    }

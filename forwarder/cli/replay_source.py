"""The archive that `forwarder replay` reads: an output of a configuration, or one made of options."""

from __future__ import annotations

import argparse
import os

from forwarder.api.archive import Archive
from forwarder.api.errors import ConfigError
from forwarder.runtime.options import Options
from forwarder.runtime.worker import Loaded


def find_archive(args: argparse.Namespace, bucket: str) -> Archive:
    """The output that writes to `bucket` in `args.store`, or one as the options say.

    Raises:
        ConfigError: there is none, or its configuration is wrong.
    """
    options = Options(
        config=args.store or os.devnull,
        inline=None if args.store else _made(args, bucket),
        plugin_dirs=tuple(args.plugin),
        log_level="debug" if args.verbose else "error",
        dry_run=True,
        without_source=True,
        supervised=False,
    )
    loaded = Loaded(options)
    found = [placed.plugin for placed in loaded.engine.plugins if isinstance(placed.plugin, Archive)]
    for plugin in found:
        if plugin.archive_bucket == bucket:
            return plugin
    raise ConfigError(f"{args.store}: no output there writes to the bucket {bucket}")


def _made(args: argparse.Namespace, bucket: str) -> str:
    given = {
        "s3_bucket": bucket,
        "s3_endpoint": args.endpoint,
        "s3_region": args.region,
        "aws_profile": args.profile,
        "ssl_ca_bundle": args.ca_bundle,
    }
    lines = [f"{name} {_quoted(value)}" for name, value in given.items() if value is not None]
    if args.path_style:
        lines.append("force_path_style true")
    if args.no_verify:
        lines.append("ssl_verify_peer false")
    return "<match **>\n@type s3\n" + "\n".join(lines) + "\n</match>"


def _quoted(text: str) -> str:
    if "\n" in text:
        raise ConfigError(f"{text!r}: a line end cannot be part of it")
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

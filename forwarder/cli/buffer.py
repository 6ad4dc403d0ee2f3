"""`forwarder buffer`: what file buffers hold, and getting chunks out of them and back in.

`list`, `show` and `export` read the files, also while the forwarder runs (what it holds changes meanwhile).
`retry` and `drop` go to the forwarder that uses the buffer, or change the files where none does. With
`--socket` all of them ask a running forwarder, which also shows its memory buffers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from forwarder.api.errors import ConfigError, ForwarderError
from forwarder.buffer import fluentd, lock
from forwarder.buffer.compression import codec
from forwarder.buffer.file import FileBuffer, FileOptions
from forwarder.buffer.limits import Limits
from forwarder.buffer.place import place
from forwarder.buffer.view import plain, shown

if TYPE_CHECKING:
    from forwarder.buffer.chunk import BufferChunk

HELP = "look into file buffers; export, retry and drop chunks"
_NAMED = ("show", "export", "retry", "drop")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    add = parser.add_argument
    add("action", choices=("list", "show", "export", "retry", "drop"))
    add("chunk", nargs="*", help="id of a chunk, or the start of one")
    add("-c", "--config", metavar="FILE", help="the file buffers of this configuration")
    add("--path", metavar="PATH", help="a file buffer by its path in <buffer>")
    add("--socket", metavar="PATH", help="control socket of a running forwarder")
    add("--id", metavar="ID", help="with -c: only the buffer of the output with this @id")
    add("-p", "--plugin", metavar="DIR", action="append", default=[], help="folder of plugins")
    add("--all", action="store_true", help="all chunks")
    add("--to", metavar="DIR", default=".", help="export: folder for the files (default: the current one)")
    add("--format", choices=("fluentd", "raw"), default="fluentd",
        help="export: chunk files of Fluentd's file buffer, or the bare content")  # fmt: skip
    add("--from", metavar="DIR", dest="source", help="retry: chunk files that were evacuated or exported")
    add("--json", action="store_true", help="list, show: print JSON")


def run(args: argparse.Namespace) -> int:
    """Does it; 1 where a chunk is not found."""
    if args.socket and not (args.path or args.config):
        return _ask(args)
    buffers = dict(_buffers(args))
    if not buffers:
        raise ConfigError(
            f"{args.config}: no output has a file buffer" + (f" and @id {args.id}" * bool(args.id))
        )
    if args.action == "list":
        return _list(buffers, as_json=args.json)
    if args.action == "retry" and args.source:
        return _put_back(buffers, args.source)
    if not args.chunk and not args.all:
        raise ConfigError(f"forwarder buffer {args.action}: which chunk? Give ids, or --all")
    change = args.action in ("retry", "drop")
    missing = set(args.chunk)
    status = 0
    for folder, buffer in buffers.items():
        process = lock.owner(folder) if change else None
        if process is not None:
            names = [""] if args.all else args.chunk
            status |= _change_running(args, folder, process, names)
            missing.clear()
            continue
        (_open if change else _peek)(buffer)
        try:
            for chunk in list(buffer.chunks()):
                names = {name for name in args.chunk if chunk.id.hex().startswith(name)}
                if names or args.all:
                    missing -= names
                    _one(args, buffer, chunk)
        finally:
            buffer.close()
    for name in sorted(missing):
        print(f"no chunk {name}")
    return 1 if missing else status


def _ask(args: argparse.Namespace) -> int:
    """Asks a running forwarder."""
    from forwarder.cli import buffer_running as running  # noqa: PLC0415 - only for one that runs

    found = [each for each in running.listed(args.socket) if args.id in (None, each["id"])]
    if args.action == "list":
        return _print_list(
            [{**each, "used_by": args.socket, "quarantine": []} for each in found], as_json=args.json
        )
    if not args.chunk and not args.all:
        raise ConfigError(f"forwarder buffer {args.action}: which chunk? Give ids, or --all")
    if args.action in ("retry", "drop"):
        return running.change(args.socket, args.action, [""] if args.all else args.chunk, args.id)
    names = [chunk["id"] for each in found for chunk in each["chunks"]] if args.all else args.chunk
    for name in names:
        if args.action == "show":
            _show(running.show(args.socket, name), as_json=args.json)
        else:
            running.export(args, args.socket, name)
    return 0


def _change_running(args: argparse.Namespace, folder: str, process: str, names: list[str]) -> int:
    """Has the process that uses a buffer retry or drop chunks of it."""
    from forwarder.cli import buffer_running as running  # noqa: PLC0415 - only for one that runs

    socket = running.socket_of(process, args.socket, folder)
    for each in running.listed(socket):
        if each["path"] is not None and os.path.realpath(each["path"]) == os.path.realpath(folder):
            return running.change(socket, args.action, names, each["id"])
    raise ForwarderError(f"{socket}: the forwarder there does not use the buffer {folder}")


def _one(args: argparse.Namespace, buffer: FileBuffer, chunk: BufferChunk) -> None:
    hexadecimal = chunk.id.hex()
    if args.action == "show":
        _show(shown(chunk), as_json=args.json)
    elif args.action == "export":
        os.makedirs(args.to, exist_ok=True)
        if args.format == "fluentd":
            path = fluentd.write(args.to, chunk, buffer.options.codec.pack, 0o644)
        else:
            path = os.path.join(args.to, f"{hexadecimal}.bin")
            with open(path, "wb") as file:
                file.writelines(chunk.blocks())
        print(f"{hexadecimal}: {chunk.count} events to {path}")
    elif args.action == "drop":
        buffer.discard(chunk)
        print(f"{hexadecimal}: {chunk.count} events dropped")
    else:
        if chunk.state == "staged":
            buffer.queue(chunk)
        print(f"{hexadecimal}: {chunk.count} events are tried at the next start")


def _buffers(args: argparse.Namespace) -> Iterator[tuple[str, FileBuffer]]:
    """The file buffers that are asked for, by the folders they lie in."""
    if args.path:
        where = place(args.path, ".log", single=False)
        if not os.path.isdir(where.store):
            raise ConfigError(f"{args.path}: no file buffer is there")
        yield where.store, FileBuffer(Limits(), FileOptions(where, codec("text")))
        return
    if not args.config:
        raise ConfigError("forwarder buffer: which buffer? Give -c FILE or --path PATH")
    from forwarder.config.reader import load  # noqa: PLC0415 - only with a configuration
    from forwarder.core.build import build  # noqa: PLC0415
    from forwarder.core.delivery import BufferedOutput  # noqa: PLC0415
    from forwarder.core.registry import Registry  # noqa: PLC0415

    registry = Registry()
    for folder in args.plugin:
        registry.add_directory(folder)
    for placed in build(load(args.config), registry=registry, check_only=True).plugins:
        node = placed.node
        wanted = args.id in (None, placed.context.id)
        if wanted and isinstance(node, BufferedOutput) and isinstance(node.buffer, FileBuffer):
            yield node.buffer.options.place.store, node.buffer


def _peek(buffer: FileBuffer) -> None:
    if os.path.isdir(buffer.options.place.store):
        buffer.peek(time.monotonic(), time.time())


def _open(buffer: FileBuffer) -> None:
    try:
        found = buffer.open(time.monotonic(), time.time())
    except lock.InUseError as error:
        raise ForwarderError(
            f"{error}: stop it first, or use list, show or export, which only read"
        ) from error
    if found.bad_ranges:
        print(f"{found.bad_bytes} broken bytes moved to {buffer.quarantine.folder}")


def _list(buffers: dict[str, FileBuffer], *, as_json: bool) -> int:
    found: list[dict[str, Any]] = []
    for folder, buffer in buffers.items():
        _peek(buffer)
        used_by = lock.owner(folder)
        chunks = [plain(chunk) for chunk in buffer.chunks()]
        broken = sorted(name for name in _names(buffer.quarantine.folder) if name != "manifest.jsonl")
        found.append({"path": folder, "used_by": used_by, "chunks": chunks, "quarantine": broken})
        buffer.close()
    return _print_list(found, as_json=as_json)


def _print_list(found: list[dict[str, Any]], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    for each in found:
        state = "in use" if each["used_by"] is not None else "not in use"
        print(f"{each['path'] or each['id'] + ' (memory)'}: {len(each['chunks'])} chunks, {state}")
        for chunk in each["chunks"]:
            print(
                f"  {chunk['id']}  {chunk['state']:<6}  {chunk['events']:>9} events  "
                f"{chunk['bytes']:>11} bytes  {chunk['created']}  {_key(chunk['key'])}".rstrip()
            )
        if each["quarantine"]:
            print(f"  quarantine: {len(each['quarantine'])} files")
    return 0


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _key(key: dict[str, Any]) -> str:
    parts = [f"{name}={key[name]}" for name in ("tag", "timekey") if key[name] is not None]
    return " ".join(parts + [f"{name}={value}" for name, value in key["variables"].items()])


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False, default=repr))
        return
    for name, value in found.items():
        if name != "content":
            print(f"{name}: {_key(value) if name == 'key' else value}")
    content = found["content"]
    if isinstance(content, str):
        print(f"content:\n{content}")
        return
    print(f"first {len(content)} events:")
    for event in content:
        print(json.dumps(event, ensure_ascii=False, default=repr))


def _put_back(buffers: dict[str, FileBuffer], source: str) -> int:
    if len(buffers) > 1:
        raise ConfigError("retry --from: into which buffer? Give --id or --path")
    ((folder, buffer),) = buffers.items()
    _open(buffer)
    try:
        names = sorted(name for name in _names(source) if name.endswith(".log"))
        for name in names:
            path = os.path.join(source, name)
            # metadata first: content without them would lose its key
            for each in (f"{path}.meta", path):
                if os.path.exists(each):
                    shutil.copy2(each, os.path.join(folder, os.path.basename(each)))
            for each in (path, f"{path}.meta"):
                if os.path.exists(each):
                    os.unlink(each)
            print(f"{name}: is tried at the next start")
    finally:
        buffer.close()
    if not names:
        print(f"{source}: no chunk files")
    return 0 if names else 1

"""Reading configuration files: `load`, `parse_text`, `add_include_dir`, and `@include`."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from typing import Final

from forwarder.api.errors import ConfigError
from forwarder.config.diagnostics import ConfigSyntaxError, Diagnostics
from forwarder.config.element import Element, Position, Source
from forwarder.config.embedded import Embedded
from forwarder.config.syntax import V1Parser

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_BACKUP: Final = re.compile(r"[._](?:bak|old|backup|orig|prev|conf|tmp|temp|debug|wip)\.conf$")
_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_MAX_GLOBS: Final = 1000
_SUFFIXES: Final = (".conf", ".yaml", ".yml")


def load(
    path: str,
    diagnostics: Diagnostics | None = None,
    *,
    env: Mapping[str, str] | None = None,
    worker_id: int = 0,
    yaml: bool = False,
    encoding: str = "utf-8-sig",
) -> Element:
    """Reads a configuration file and all that it includes; `.yaml` and `.yml` are YAML.

    Args:
        path: the file. diagnostics: takes the warnings. env: for embedded code, default `os.environ`.
        yaml: it is YAML whatever its name is. encoding: of this file; what it includes is UTF-8.

    Raises:
        ConfigError: no such file, or (ConfigSyntaxError, with a position) no configuration.
    """
    return parse_text(read_text(path, encoding), path, diagnostics, env=env, worker_id=worker_id, yaml=yaml)


def parse_text(
    text: str, path: str = "<text>", diagnostics: Diagnostics | None = None, *,
    env: Mapping[str, str] | None = None, worker_id: int = 0, yaml: bool = False,
) -> Element:  # fmt: skip
    """Reads a configuration from `text`; includes are relative to the folder of `path`.

    Raises:
        ConfigSyntaxError: the text is no configuration.
    """
    reader = _Reader(Diagnostics() if diagnostics is None else diagnostics, Embedded(env, worker_id))
    source = Source(path, text)
    root = Element("ROOT", "", source.position(0))
    chain = (os.path.realpath(path),)
    if yaml or path.endswith((".yaml", ".yml")):
        reader.read_yaml(source, root, chain)
    else:
        reader.read(source, root, chain)
    return root


def add_include_dir(root: Element, diagnostics: Diagnostics | None = None, *, worker_id: int = 0) -> None:
    """Adds what the files in `<system> config_include_dir` say, those in its folders too.

    Raises:
        ConfigError: as `load`.
    """
    section = next(iter(root.children("system")), None)
    folder = None if section is None else section.get("config_include_dir")
    if folder is None:
        folder = os.environ.get("FLUENT_CONF_INCLUDE_DIR", "/etc/fluent/conf.d")
    if not folder:
        return
    known = {os.path.realpath(element.file) for element in root.walk()}
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "**", "*"), recursive=True)):
        if path.endswith(_SUFFIXES) and os.path.isfile(path) and os.path.realpath(path) not in known:
            added = load(path, diagnostics, worker_id=worker_id)
            root.params.update(added.params)
            root.elements.extend(added.elements)


def read_text(path: str, encoding: str = "utf-8-sig") -> str:
    """A file's text.

    Raises:
        ConfigError: it cannot be read, or is not in that encoding.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ConfigError(f"cannot read configuration file {path}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise ConfigError(f"cannot read configuration file {path!r}: {error}") from error
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        name = "UTF-8" if encoding == "utf-8-sig" else encoding
        raise ConfigError(f"{path}:{line}: configuration file is not {name} (byte {error.start})") from error
    except LookupError as error:
        raise ConfigError(f"configuration file {path}: {error}") from error


class _Reader:
    """Follows includes. `chain`: the files being read, to find cycles."""

    def __init__(self, diagnostics: Diagnostics, embedded: Embedded) -> None:
        self.diagnostics = diagnostics
        self.embedded = embedded

    def read(self, source: Source, into: Element, chain: tuple[str, ...]) -> None:
        def include(parser: V1Parser, element: Element, target: str, offset: int) -> None:
            self.include(parser, element, target, offset, chain)

        V1Parser(source, self.embedded, self.diagnostics, include).body(into, top=True)

    def include(
        self, parser: V1Parser, element: Element, target: str, offset: int, chain: tuple[str, ...]
    ) -> None:
        for source, real in self.sources(target, parser.source.position(offset), chain):
            self.read(source, element, (*chain, real))

    def read_yaml(self, source: Source, root: Element, chain: tuple[str, ...]) -> None:
        try:
            from forwarder.config.yaml_syntax import YamlReader  # noqa: PLC0415 - an optional dependency
        except ImportError as error:
            raise ConfigError(f"{source.path}: YAML needs PyYAML: pip install 'forwarder[yaml]'") from error
        chains = {source.path: chain}

        def include(target: str, position: Position) -> list[Source]:
            # A list, not an iterator: a file's own includes are followed after it is known here.
            around = chains[position.source.path]
            found = self.sources(target, position, around)
            for each, real in found:
                chains[each.path] = (*around, real)
            return [each for each, _ in found]

        YamlReader(self.embedded, self.diagnostics, include).read(source, root)

    def sources(self, target: str, position: Position, chain: tuple[str, ...]) -> list[tuple[Source, str]]:
        """The files that an include takes, with their real paths."""
        scheme = _SCHEME.match(target)
        if scheme is not None and scheme[1] != "file":
            raise ConfigSyntaxError(f"@include of {scheme[1]} addresses is not supported: {target}", position)
        from urllib.parse import unquote_plus  # noqa: PLC0415 - most configurations include nothing

        # Fluentd reads the target as a URI: %20 and '+' are blanks.
        path = unquote_plus(re.sub(r"^file:(?://[^/]*)?", "", target))
        folder = os.path.dirname(os.path.abspath(position.source.path))
        found: list[tuple[Source, str]] = []
        for entry in _matches(os.path.join(folder, path)):
            name = os.path.basename(entry)
            if path.endswith("*.conf") and _BACKUP.search(entry):
                self.diagnostics.warning(f"@include {target} also takes {name}, probably a backup", position)
            real = os.path.realpath(entry)
            if real in chain:
                raise ConfigSyntaxError(f"@include cycle: {entry} includes itself", position)
            try:
                found.append((Source(entry, read_text(entry)), real))
            except ConfigError as error:
                raise ConfigSyntaxError(f"@include {target}: {error.message}", position) from error
        if not found:
            self.diagnostics.note(f"@include {target}: no such file, nothing is included", position)
        return found


def _matches(pattern: str) -> list[str]:
    """The files of a Ruby glob (with `{a,b}`), sorted."""
    found: set[str] = set()
    try:
        for each in _expand(pattern):
            found.update(os.path.normpath(name) for name in glob.glob(each, recursive=True))
    except (ValueError, re.error):
        return []
    return sorted(found)


def _expand(pattern: str) -> list[str]:
    """The patterns that `{a,b}` stands for."""
    done: list[str] = []
    todo = [pattern]
    while todo and len(done) + len(todo) < _MAX_GLOBS:
        each = todo.pop()
        braces = _BRACES.search(each)
        if braces is None:
            done.append(each)
        else:
            todo.extend(each[: braces.start()] + word + each[braces.end() :] for word in braces[1].split(","))
    return done + todo


__all__ = ["ConfigSyntaxError", "add_include_dir", "load", "parse_text", "read_text"]

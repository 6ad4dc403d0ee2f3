"""Finding plugin classes by kind and name.

Three places, first hit wins: folders given with `-p DIR`, our own distribution's entry points, the entry
points of every other distribution. Entry points are read from `entry_points.txt` directly: importing
`importlib.metadata` costs more memory and time than the whole configuration.

Files in a plugin folder are named as in Fluentd: `in_NAME.py`, `filter_NAME.py`, `out_NAME.py`,
`parser_NAME.py`, `formatter_NAME.py`. The file's name gives kind and plugin name. The class is the
file's only subclass of that kind's base; where there are several, the one whose `plugin_name` is NAME.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Final

from forwarder.api.errors import ConfigError
from forwarder.api.plugin import Filter, Formatter, Input, Output, Parser, Plugin

KINDS: Final[dict[str, type[Plugin]]] = {
    "input": Input,
    "parser": Parser,
    "filter": Filter,
    "formatter": Formatter,
    "output": Output,
}
_PREFIXES: Final = {
    "in_": "input",
    "parser_": "parser",
    "filter_": "filter",
    "formatter_": "formatter",
    "out_": "output",
}
_GROUPS: Final = {f"forwarder.{kind}s": kind for kind in KINDS}
_OWN: Final = "forwarder"


class Registry:
    """Which plugins there are. Loads a class (and imports its module) when it is asked for."""

    def __init__(self, path: list[str] | None = None) -> None:
        """`path`: where distributions are looked for, default `sys.path`."""
        self._path = sys.path if path is None else path
        self._files: dict[tuple[str, str], str] = {}
        self._own: dict[tuple[str, str], str] | None = None
        self._others: dict[tuple[str, str], str] | None = None
        self._classes: dict[tuple[str, str], type[Plugin]] = {}

    def add_directory(self, path: str) -> None:
        """Takes the plugin files of a folder; they come before all others.

        Raises:
            ConfigError: no such folder.
        """
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            raise ConfigError(f"plugin folder {path}: {error.strerror or error}") from error
        for name in names:
            stem, extension = os.path.splitext(name)
            for prefix, kind in _PREFIXES.items():
                if extension == ".py" and stem.startswith(prefix) and len(stem) > len(prefix):
                    self._files[kind, stem.removeprefix(prefix)] = os.path.abspath(os.path.join(path, name))

    def register(self, kind: str, name: str, cls: type[Plugin]) -> None:
        """Adds a class directly (tests, embedding)."""
        self._classes[kind, name] = cls

    def load(self, kind: str, name: str) -> type[Plugin]:
        """The class of a plugin.

        Args:
            kind: "input", "parser", "filter", "formatter" or "output". name: as in `@type`.

        Raises:
            ConfigError: there is none, or it cannot be imported.
        """
        key = kind, name
        if key not in self._classes:
            self._classes[key] = self._find(kind, name)
        return self._classes[key]

    def names(self, kind: str) -> list[str]:
        """All names of a kind, sorted."""
        keys = {*self._classes, *self._files, *self._own_points(), *self._other_points()}
        return sorted(name for each, name in keys if each == kind)

    def origin(self, kind: str, name: str) -> str:
        """Where a plugin comes from: a file, or `module:Class`."""
        key = kind, name
        return (
            self._files.get(key)
            or self._own_points().get(key)
            or self._other_points().get(key)
            or "registered"
        )

    def _find(self, kind: str, name: str) -> type[Plugin]:
        if kind not in KINDS:
            raise ConfigError(f"there is no kind of plugin called {kind!r}")
        if (kind, name) in self._files:
            return _from_file(kind, name, self._files[kind, name])
        target = self._own_points().get((kind, name)) or self._other_points().get((kind, name))
        if target is None:
            raise ConfigError(self._unknown(kind, name), param="@type")
        return _from_entry_point(kind, name, target)

    def _unknown(self, kind: str, name: str) -> str:
        from forwarder.core.refused import PLUGINS  # noqa: PLC0415 - for a message only

        if (kind, name) in PLUGINS:
            return f"{kind} plugin {name!r} is not supported: {PLUGINS[kind, name]}"
        from difflib import get_close_matches  # noqa: PLC0415 - for a message only

        known = self.names(kind)
        near = get_close_matches(name, known, 3, 0.6)
        advice = f"did you mean {' or '.join(near)}?" if near else f"known are: {', '.join(known) or 'none'}"
        elsewhere = [other for other in KINDS if other != kind and name in self.names(other)]
        if elsewhere and not near:
            advice = f"there is a plugin of this name, but it is a {elsewhere[0]}; {advice}"
        return f"unknown {kind} plugin {name!r}; {advice}"

    def _own_points(self) -> dict[tuple[str, str], str]:
        if self._own is None:
            self._own = _scan(self._path, own=True)
        return self._own

    def _other_points(self) -> dict[tuple[str, str], str]:
        if self._others is None:
            self._others = _scan(self._path, own=False)
        return self._others


def _scan(path: list[str], *, own: bool) -> dict[tuple[str, str], str]:
    """Entry points of our groups in the distributions on `path`; the first of a name wins."""
    found: dict[tuple[str, str], str] = {}
    for folder in path:
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:
            continue
        for name in names:
            stem, extension = os.path.splitext(name)
            if extension not in (".dist-info", ".egg-info"):
                continue
            if (stem.partition("-")[0].lower() == _OWN) != own:
                continue
            for key, target in _entry_points(os.path.join(folder, name, "entry_points.txt")).items():
                found.setdefault(key, target)
        if own and found:
            break
    return found


def _entry_points(path: str) -> dict[tuple[str, str], str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeError):
        return {}
    found: dict[tuple[str, str], str] = {}
    kind: str | None = None
    for raw in lines:
        line = raw.strip()
        if line.startswith("["):
            kind = _GROUPS.get(line.strip("[]").strip())
        elif kind is not None and "=" in line and line[0] not in "#;":
            name, _, target = line.partition("=")
            found[kind, name.strip()] = target.partition("[")[0].strip()
    return found


def _from_entry_point(kind: str, name: str, target: str) -> type[Plugin]:
    module_name, _, attribute = target.partition(":")
    try:
        value: object = import_module(module_name)
        for part in attribute.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{kind} plugin {name!r} ({target}) cannot be loaded: {error}", param="@type"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"{kind} plugin {name!r} ({target}) fails on import: {error!r}", param="@type"
        ) from error
    return _checked(kind, name, value, target)


def _checked(kind: str, name: str, value: object, origin: str) -> type[Plugin]:
    base = KINDS[kind]
    if not isinstance(value, type) or not issubclass(value, base):
        raise ConfigError(
            f"{kind} plugin {name!r} ({origin}) is no subclass of {base.__name__}", param="@type"
        )
    return value


def _from_file(kind: str, name: str, path: str) -> type[Plugin]:
    from importlib.util import module_from_spec, spec_from_file_location  # noqa: PLC0415 - with -p only

    module_name = f"forwarder_local_{abs(hash(path)):x}_{os.path.basename(path)[:-3]}"
    spec = spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plugin file {path} cannot be loaded", param="@type")
    module = module_from_spec(spec)
    sys.modules[module_name] = module  # pickling, dataclasses and typing look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise ConfigError(f"plugin file {path} fails on import: {error!r}", param="@type") from error
    base = KINDS[kind]
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module_name
    ]
    if len(classes) > 1:
        classes = [cls for cls in classes if getattr(cls, "plugin_name", None) == name]
    if len(classes) != 1:
        raise ConfigError(
            f"plugin file {path} must define one subclass of {base.__name__}, or several of which one has "
            f"plugin_name = {name!r}",
            param="@type",
        )
    return classes[0]

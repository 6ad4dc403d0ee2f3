"""`<storage> @type local`: values of a plugin in a JSON file, so that they outlive it."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from forwarder.api import files
from forwarder.api.errors import ConfigError
from forwarder.api.shared_sections import Storage

if TYPE_CHECKING:
    from forwarder.api.plugin import Plugin

_FILE = "storage.json"


class LocalStorage:
    """A plugin's values. For one thread.

    They are kept in `path` (a folder gets `workerN/storage.json`), or, where the plugin has an `@id` and
    there is a `root_dir`, below that; otherwise they live as long as the process. As Fluentd keeps them.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(self, plugin: Plugin, section: Storage, *, has_id: bool) -> None:
        self._plugin = plugin
        self._section = section
        self.path = self._path(has_id=has_id)
        """None: in memory."""
        self._values: dict[str, Any] = {}
        self._saved_at = time.monotonic()
        if self.path is None and section.persistent:
            raise ConfigError("persistent needs a path, or @id and root_dir", param="persistent")
        if self.path is not None:
            self._values = self._read(self.path)

    def get(self, key: str) -> Any:
        """The value; None: there is none."""
        return self._values.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keeps a value that JSON can hold; saves where it is time to."""
        self._values[key] = value
        section = self._section
        due = section.autosave and time.monotonic() - self._saved_at >= section.autosave_interval
        if section.persistent or due:
            self.save()

    def close(self) -> None:
        """The end: saves unless the configuration says otherwise."""
        if self._section.save_at_shutdown:
            self.save()

    def save(self) -> None:
        """Writes the file, whole or not at all; what goes wrong is logged."""
        self._saved_at = time.monotonic()
        if self.path is None:
            return
        text = json.dumps(self._values, indent=2 if self._section.pretty_print else None)
        temporary = f"{self.path}.tmp"
        try:
            files.make_folders(os.path.dirname(self.path), int(self._section.dir_mode, 8))
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, int(self._section.mode, 8))
            try:
                files.write_all(descriptor, [text.encode()])
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, self.path)
        except OSError as error:
            self._plugin.log_repeated("cannot save the storage", level="error", path=self.path, error=error)

    def _path(self, *, has_id: bool) -> str | None:
        context, path = self._plugin.context, self._section.path
        worker = f"worker{context.worker_id}"
        if path is not None:
            is_folder = os.path.isdir(path) or not (os.path.exists(path) or path.endswith(".json"))
            return os.path.join(path, worker, _FILE) if is_folder else path
        if context.root_dir is None or not has_id:
            return None
        usage = f"storage.{self._section.usage}.json" if self._section.usage else _FILE
        return os.path.join(context.root_dir, worker, context.id, usage)

    def _read(self, path: str) -> dict[str, Any]:
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            why = files.unwritable_folder(os.path.dirname(path))
            if why is not None:
                raise ConfigError(f"storage {path} cannot be written: {why}", param="storage") from None
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"storage {path} cannot be read: {error}", param="storage") from None
        if not text:
            self._plugin.log.warning("the storage's file is empty", path=path)
            return {}
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"storage {path} is no JSON: {error}", param="storage") from None
        if not isinstance(values, dict):
            raise ConfigError(f"storage {path} is no JSON object", param="storage")
        return values

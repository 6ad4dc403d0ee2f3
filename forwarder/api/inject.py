"""`<inject>`: fields that an output or filter adds to every record."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from forwarder import _native
from forwarder._native import EventBatch
from forwarder.api.errors import ConfigError
from forwarder.api.formatting import native, output_zone
from forwarder.api.parameters import Section, array, boolean, enum, string

if TYPE_CHECKING:
    from forwarder.api.plugin import Context


class Inject(Section):
    """Declare with `optional_section(Inject, ...)`; call `bind(self.context)` in the plugin's `configure`,
    then `apply` per batch.

    A field that a record has already is replaced where it stands; new fields follow at the end in the
    order host name, worker id, tag, time. Differs from Fluentd: nothing.
    """

    hostname_key = string("Field for the host name.", None)
    hostname = string("The host name; not set: this machine's.", None)
    worker_id_key = string("Field for the number of the worker process.", None)
    tag_key = string("Field for the tag.", None)
    time_key = string("Field for the event's time.", None)
    time_type = enum(
        "How the time is written: seconds as float (microseconds kept), an integer count, or text.",
        ("float", "unixtime", "unixtime_millis", "unixtime_micros", "unixtime_nanos", "string"),
        "float",
    )
    time_format = string("strftime directives for `time_type string`; not set: ISO 8601.", None)
    localtime = boolean(
        "Text times in the machine's zone; not set: yes, unless utc or timezone is.", None, never_nil=True
    )
    utc = boolean("Text times in UTC.", None, never_nil=True)
    timezone = string("Zone of text times: `+09:00`, `Asia/Tokyo`.", None)
    time_format_fallbacks = array("No effect: it is for reading times.", [])

    _kernel: _native.Inject | None = None
    _unknown_zone = False

    def configure(self) -> None:
        self._make(worker_id=0)

    def bind(self, context: Context, chunk_keys: tuple[str, ...] = ()) -> None:
        """Makes the section ready. `chunk_keys`: the output's, none of which may be `hostname_key`.

        Raises:
            ConfigError: `hostname_key` is a chunk key (chunks are cut before fields are injected).
        """
        if self.hostname_key is not None and self.hostname_key in chunk_keys:
            raise ConfigError(
                "the key specified by 'hostname_key' in <inject> cannot be used in buffering chunk key; "
                "inject it with a filter instead",
                param="hostname_key",
            )
        if self.time_format is not None and self.time_key is None:
            context.log.warning("<inject> has time_format but no time_key: time_format has no effect")
        self._kernel = self._make(context.worker_id)
        if self._unknown_zone:
            context.log.warning(
                f"<inject> has an unknown timezone {self.timezone!r}: times are in the machine's zone, as in "
                "Fluentd"
            )

    def apply(self, batch: EventBatch) -> EventBatch:
        """The batch with the fields in every record."""
        return batch if self._kernel is None else self._kernel.apply(batch)

    def _make(self, worker_id: int) -> _native.Inject | None:
        if not (self.hostname_key or self.worker_id_key or self.tag_key or self.time_key):
            return None
        hostname = (
            (self.hostname_key, socket.gethostname() if self.hostname is None else self.hostname)
            if self.hostname_key
            else None
        )

        def made(zone: str | None) -> _native.Inject:
            return _native.Inject(
                hostname=hostname,
                worker_id=(self.worker_id_key, worker_id) if self.worker_id_key else None,
                tag_key=self.tag_key or None,
                time=(self.time_key, self.time_type, self.time_format, zone) if self.time_key else None,
            )

        zone = output_zone(self.timezone, self.utc, self.localtime)
        if self.timezone is not None:
            try:
                return made(zone)
            except ValueError:
                self._unknown_zone, zone = True, None  # Fluentd does not look at it here
        return native(lambda: made(zone), param="time_format")

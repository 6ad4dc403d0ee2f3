"""Names of objects: `s3_object_key_format`, filled in."""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Callable
from typing import Final

from forwarder.api import Chunk, ConfigError, placeholders
from forwarder.api.buffering import ChunkKeys

_VARIABLE: Final = re.compile(r"%\{[^}]+\}")
_REMOVED: Final = ("%{uuid}", "%{uuid:random}", "%{uuid:hostname}", "%{uuid:timestamp}")
_OWN: Final = ("${chunk_id}", "%{uuid_flush}", "%{hex_random}")
_WITHOUT_LOOKING: Final = "%{path}/%{time_slice}_%{hms_slice}.%{file_extension}"


class Names:
    """What an output calls its objects.

    Attributes:
        own: whether the name of a chunk's object holds something of this chunk alone.
    """

    def __init__(
        self, template: str, *, given: bool, look: bool, path: str, extension: str, index_format: str,
        hex_random_length: int, time_slice_format: str | None, keys: ChunkKeys,
    ) -> None:  # fmt: skip
        """`given`: the template is the configuration's; `look`: objects are looked for before writing.

        Raises:
            ConfigError: says what is wrong.
        """
        if not 0 < hex_random_length <= 16:
            raise ConfigError("hex_random_length must be from 1 to 16", param="hex_random_length")
        if not re.fullmatch(r"%(0\d*)?[dxX]", index_format):
            raise ConfigError(
                "index_format: expected %d, %x or %X, with a width such as %04d", param="index_format"
            )
        for name in _REMOVED:
            if name in template:
                raise ConfigError(
                    f"{name} placeholder in s3_object_key_format is removed", param="s3_object_key_format"
                )
        if not look and not given:
            template = _WITHOUT_LOOKING
        self._template = template.replace("%{hostname}", socket.gethostname())
        self._before = {"%{path}": path, "%{file_extension}": extension}
        self._index_format = index_format
        self._hex_random_length = hex_random_length
        self._zone = placeholders.zone(keys.zone)
        self._slot = time_slice_format or ("" if keys.timekey is None else _slot_format(keys.timekey))
        self.own = any(each in self._template for each in _OWN)

    def key(self, chunk: Chunk, index: int, extract: Callable[[str, Chunk], str]) -> str:
        """An object's name; the same for all attempts of a chunk, but for `index`."""
        key = _VARIABLE.sub(lambda found: self._before.get(found[0], found[0]), self._template)
        key = extract(key, chunk)
        slot = chunk.key.timekey
        written = "" if slot is None else placeholders.format_time(self._slot, slot, self._zone)
        created = placeholders.format_time("%H%M%S", int(chunk.created_at), placeholders.zone("UTC"))
        after = {
            "%{time_slice}": written,
            "%{date_slice}": written,
            "%{hms_slice}": created,
            "%{index}": self.index(index),
            "%{hex_random}": chunk.id.hex()[::-1][: self._hex_random_length],
            "%{uuid_flush}": str(uuid.UUID(bytes=chunk.id, version=4)),
        }
        return _VARIABLE.sub(lambda found: after.get(found[0], ""), key)

    def index(self, index: int) -> str:
        """`%{index}`."""
        return self._index_format % index


def _slot_format(timekey: int) -> str:
    text = "%Y%m%d"
    for limit, directive in ((86400, "%H"), (3600, "%M"), (60, "%S")):
        if timekey < limit:
            text += directive
    return text

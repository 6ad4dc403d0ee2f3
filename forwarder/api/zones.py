"""Names of time zones as configurations may write them."""

from __future__ import annotations

import re
from typing import Final

from forwarder.api.errors import ConfigError

_ZONE: Final = re.compile(r"[+-]\d\d(?::?\d\d)?|[^/]+/[^/]+(?:/[^/]+)?", re.ASCII)


def check_zone(name: str | None, param: str) -> None:
    """Refuses what Fluentd refuses: abbreviations such as `JST` or `UTC`. Whether there is such a zone is
    found out by who uses it.

    Raises:
        ConfigError: for `param`.
    """
    if name is None or _ZONE.fullmatch(name):
        return
    hint = ", or utc true" if name.upper() in ("UTC", "GMT", "Z") else ""
    raise ConfigError(
        f"unsupported timezone {name!r}: expected +HH:MM, or a name such as Asia/Tokyo{hint}", param=param
    )

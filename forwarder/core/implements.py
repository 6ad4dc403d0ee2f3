"""How an output can run: which of the methods of `Output` its class implements."""

from __future__ import annotations

from forwarder.api.errors import ConfigError
from forwarder.api.parameters import SectionParam, declarations
from forwarder.api.plugin import Output


def buffers(plugin: Output, *, has_section: bool) -> bool:
    """Whether an output runs buffered; Fluentd's rules. Raises ConfigError where it cannot run so."""
    direct = overrides(plugin, "process") or overrides(plugin, "process_batch")
    writes = overrides(plugin, "write") or overrides(plugin, "try_write")
    if not direct and not writes:
        raise ConfigError(f"{type(plugin).__name__} implements none of process, write and try_write")
    if has_section and not writes:
        raise ConfigError(
            "<buffer> is configured, but this output does not support buffering", param="buffer"
        )
    return writes and (has_section or plugin.always_buffered or not direct)


def has_stores(plugin: Output) -> bool:
    """Whether an output only gives its events to outputs of its own (`<store>`)."""
    return any(
        isinstance(each, SectionParam) and each.kind == "output" and each.multiple
        for each in declarations(type(plugin)).values()
    )


def overrides(plugin: Output, method: str) -> bool:
    """Whether the plugin's class implements a method of `Output` itself."""
    return getattr(type(plugin), method) is not getattr(Output, method)


def delays(plugin: Output) -> bool:
    """Whether an output confirms its chunks later (`try_write`)."""
    if not overrides(plugin, "try_write"):
        return False
    return plugin.prefer_delayed_commit or not overrides(plugin, "write")

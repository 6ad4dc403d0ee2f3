"""fluent.conf -> element tree -> bound parameters, and what is wrong with it.

`load`/`parse_text` read, `read_structure` sorts the top level into sources, routes and labels, `bind` fills
a plugin, `Diagnostics` collects findings, `render` prints without secrets.
"""

from forwarder.config.bind import Factory, bind, bind_configured
from forwarder.config.diagnostics import ConfigSyntaxError, Diagnostic, Diagnostics, InvalidConfiguration
from forwarder.config.element import Element, Parameter, Position
from forwarder.config.reader import load, parse_text
from forwarder.config.render import render
from forwarder.config.structure import LabelSpec, PluginSpec, Structure, read_structure
from forwarder.config.system import SystemConfig

__all__ = [
    "ConfigSyntaxError",
    "Diagnostic",
    "Diagnostics",
    "Element",
    "Factory",
    "InvalidConfiguration",
    "LabelSpec",
    "Parameter",
    "PluginSpec",
    "Position",
    "Structure",
    "SystemConfig",
    "bind",
    "bind_configured",
    "load",
    "parse_text",
    "read_structure",
    "render",
]

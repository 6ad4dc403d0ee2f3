"""From a configuration to an engine: plugins are made, bound, configured and put into their routes.

All problems are collected, so that one look shows them all.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, cast

from forwarder._native import MemoryBudget
from forwarder.api.errors import ConfigError
from forwarder.api.plugin import Filter, Output, Plugin
from forwarder.buffer.compression import codec
from forwarder.config.bind import bind
from forwarder.config.diagnostics import Diagnostics
from forwarder.config.render import masked
from forwarder.config.structure import PluginSpec, Structure, read_structure
from forwarder.core.buffers import Buffers
from forwarder.core.context import PluginContext, Routes
from forwarder.core.delivery import BufferedOutput
from forwarder.core.engine import ROOT, Engine, Placed
from forwarder.core.implements import buffers, has_stores, overrides
from forwarder.core.memory import largest_chunk, limit_bytes
from forwarder.core.pipeline import DirectOutput, FilterNode, OutputNode
from forwarder.core.registry import Registry
from forwarder.core.router import NoMatch, Router
from forwarder.core.source_only import ERROR, SourceOnly, sections
from forwarder.telemetry.ledger import Counters
from forwarder.telemetry.log import LEVELS, Log

if TYPE_CHECKING:
    from forwarder.api.sockets import Sockets
    from forwarder.config.element import Element

_PREFIX: Final = {"input": "in", "output": "out"}
_MANY_KEYS: Final = 4
_INSIDE: Final = {"parse": "parser", "format": "formatter", "store": "output", "secondary": "output"}
"""Sections whose @type is a plugin of this kind wherever they stand."""


def build(
    root: Element,
    *,
    diagnostics: Diagnostics | None = None,
    structure: Structure | None = None,
    registry: Registry | None = None,
    log: Log | None = None,
    check_only: bool = False,
    without_sources: bool = False,
    source_only: bool | None = None,
    worker_id: int = 0,
    sockets: Sockets | None = None,
    memory: MemoryBudget | None = None,
) -> Engine:
    """The engine of a configuration, ready to start.

    Args:
        root: from `forwarder.config.load`. diagnostics: takes all findings. structure: where
        `read_structure` has been called already. check_only: the engine will not be started. source_only:
        instead of what `<system> with_source_only` says. sockets: what keeps the sockets that inputs listen
        on; not given: the engine has its own. memory: the process's
        budget; not given: the engine has its own, without a limit unless `<system>` sets one.

    Raises:
        InvalidConfiguration: there are errors; all of them are in it.
    """
    diagnostics = Diagnostics() if diagnostics is None else diagnostics
    structure = structure or read_structure(root, diagnostics)
    builder = _Builder(
        structure,
        diagnostics,
        registry or Registry(),
        log or Log(),
        check_only=check_only,
        worker_id=worker_id,
        memory=memory,
    )
    engine = builder.run(without_sources=without_sources, source_only=source_only, sockets=sockets)
    diagnostics.raise_errors()
    return engine


class _Builder:
    def __init__(
        self, structure: Structure, diagnostics: Diagnostics, registry: Registry, log: Log, *,
        check_only: bool, worker_id: int, memory: MemoryBudget | None,
    ) -> None:  # fmt: skip
        self.structure = structure
        self.diagnostics = diagnostics
        self.registry = registry
        self.log = log
        self.check_only = check_only
        self.worker_id = worker_id
        limit = structure.system.memory_limit_size or 0 if memory is None else limit_bytes(structure.system)
        self.routes = Routes(MemoryBudget(limit) if memory is None else memory)
        self.placed: list[Placed] = []
        self.made = 0
        self.hostname = os.uname().nodename
        self.buffers = Buffers(structure.system, diagnostics, largest_chunk(limit))
        self.ids = {
            found.value
            for element in structure.root.walk()
            if (found := element.params.get("@id")) is not None and found.value
        }

    def run(self, *, without_sources: bool, source_only: bool | None, sockets: Sockets | None) -> Engine:
        labels = {ROOT: self.structure.routes}
        labels.update((name, label.routes) for name, label in self.structure.labels.items())
        # all labels first: `check_label` of a plugin must find one that stands further down
        for label in labels:
            self.routes.by_label[label] = Router(NoMatch(self.context(label, "router", "router", label)))
        for label, specs in labels.items():
            for spec in specs:
                self.route(spec, label)
        for spec in self.structure.sources:
            self.plugin(spec, ROOT)
        system = self.structure.system
        without_sources = without_sources or bool(system.without_source)
        if source_only is None:
            source_only = bool(system.with_source_only)
        if source_only and without_sources:
            self.diagnostics.error(
                "with_source_only and without_source exclude each other", self.structure.root.position
            )
        if without_sources:
            self.placed = [placed for placed in self.placed if placed.plugin.kind != "input"]
        mode = self.source_only(list(labels), collecting=source_only)
        engine = Engine(self.placed, self.routes, self.log, sockets)
        engine.source_only = mode
        engine.log_event_verbose = bool(system.log_event_verbose)
        return engine

    def source_only(self, labels: list[str], *, collecting: bool) -> SourceOnly | None:
        """The buffers of source-only mode; of an earlier one where that is over, if they hold something."""
        if self.check_only and not collecting:
            return None
        if collecting:
            used = {
                placed.context.label or ROOT for placed in self.placed if placed.plugin.kind == "input"
            } | {ERROR}
            labels = [label for label in labels if label in used]
        mode = SourceOnly(collecting=collecting)
        position = self.structure.root.position
        for label, element in sections(self.structure.system, labels, position, collecting=collecting):
            spec = PluginSpec("output", "buffer", element, "**", None, None, None)
            if self.plugin(spec, ROOT) is not None:
                mode.add(label, self.placed[-1], NoMatch(self.context(label, "router", "router", label)))
        return mode if mode.placed else None

    def route(self, spec: PluginSpec, home: str) -> None:
        plugin = self.plugin(spec, home)
        if plugin is None:
            return
        node = self.placed[-1].node
        if isinstance(plugin, Filter):
            self.add(spec, home, FilterNode(plugin, cast(PluginContext, plugin.context)))
        elif node is not None:
            self.add(spec, home, node)

    def add(self, spec: PluginSpec, home: str, node: FilterNode | OutputNode) -> None:
        try:
            self.routes.by_label[home].add(spec.pattern, node)
        except ConfigError as error:
            self.diagnostics.exception(error, spec.element)

    def plugin(self, spec: PluginSpec, home: str) -> Plugin | None:
        try:
            return self.make(spec.kind, spec.type_name, spec.element, home)
        except ConfigError as error:
            self.diagnostics.exception(error, spec.element)
            return None

    def make(
        self, kind: str, type_name: str, element: Element, home: str, parent: Plugin | None = None
    ) -> Plugin | None:
        """A plugin, bound and configured, in `placed`; None where that failed."""
        before = len(self.diagnostics.errors)
        try:
            cls = self.registry.load(kind, type_name)
        except ConfigError:
            self.look_inside(element)
            raise
        if (
            self.structure.system.workers > 1
            and id(element) not in self.structure.narrow
            and not cls.multi_workers_ready
        ):
            raise ConfigError(
                f"Plugin '{type_name}' does not support multi workers configuration; put it into a <worker> "
                "section", param="@type",
            )  # fmt: skip
        plugin = cls()
        plugin_id = element.get("@id") or self.invent_id(kind, type_name)
        level = element.get("@log_level")
        if level is not None and level not in LEVELS:
            raise ConfigError(
                f"@log_level: expected one of {', '.join(LEVELS)}, but got {level!r}", param="@log_level"
            )
        context = self.context(plugin_id, kind, type_name, home, element=element, level=level)
        plugin.context = context
        self.made += 1
        context.place = self.made
        if isinstance(plugin, Output) and isinstance(parent, Output):
            context.counters.parent = cast(PluginContext, parent.context).counters
        path = parent.context.type_name if parent is not None else ""
        bound = bind(
            plugin,
            element,
            lambda kind, type_name, child: self.child(plugin, kind, type_name, child, home),
            self.diagnostics,
            path=f"<{element.name}> of {path}" if path else "",
        )
        if not bound:
            return None
        context.config = {name: masked(element, param) for name, param in element.params.items()}
        node: OutputNode | None = None
        with self.diagnostics.located(element):
            if context.label is not None and context.label != ROOT:
                context.check_label(context.label)
            if isinstance(plugin, Output):
                self.prepare(plugin, element, parent)
            plugin.configure()
            if isinstance(plugin, Output) and element.name != "secondary":
                node = self.output(plugin, context, element)
        if len(self.diagnostics.errors) != before:
            return None
        self.placed.append(Placed(plugin, context, node))
        return plugin

    def look_inside(self, element: Element) -> None:
        """Names what else is unknown in the sections of a plugin that is unknown itself."""
        for child in element.elements:
            kind, type_name = _INSIDE.get(child.name), child.get("@type")
            if kind is None or not type_name:
                continue
            try:
                self.registry.load(kind, type_name)
            except ConfigError as error:
                self.diagnostics.exception(error, child)
                self.look_inside(child)

    def child(self, parent: Plugin, kind: str, type_name: str, element: Element, home: str) -> Plugin | None:
        """A plugin of a sub-section."""
        return self.make(kind, type_name, element, home, parent)

    def prepare(self, plugin: Output, element: Element, parent: Plugin | None) -> None:
        """Sets what `configure` of an output may ask for."""
        if element.name == "secondary" and isinstance(parent, Output):
            for section in ("buffer", "secondary"):
                if section in plugin.given:
                    raise ConfigError(f"<secondary> cannot have a <{section}> section", param=section)
            if not (overrides(plugin, "write") or overrides(plugin, "try_write")):
                raise ConfigError(
                    f"{plugin.context.type_name} cannot be a <secondary>: it does not support buffering"
                )
            plugin.chunk_keys = parent.buffer.keys()
            plugin.as_secondary = True
        elif plugin.only_secondary:
            raise ConfigError("This plugin can only be used in the <secondary> section", param="@type")
        else:
            plugin.chunk_keys = plugin.buffer.keys()

    def output(self, plugin: Output, context: PluginContext, element: Element) -> OutputNode:
        has_section = "buffer" in plugin.given
        if has_section and has_stores(plugin):
            has_section = False
            self.diagnostics.warning(
                "<buffer> has no effect: each <store> has its own", element.position, section=element.title
            )
        if not buffers(plugin, has_section=has_section):
            if plugin.secondary is not None:
                raise ConfigError("<secondary> needs a buffered output", param="secondary")
            return DirectOutput(plugin, context)
        buffer = plugin.buffer
        keys = buffer.keys()
        place = next(iter(element.children("buffer")), element).position
        if "flush_interval" in buffer.given and buffer.flush_mode != "interval":
            if buffer.flush_mode != "default":
                raise ConfigError(
                    f"flush_interval has no effect with flush_mode {buffer.flush_mode}", param="buffer"
                )
            if keys.timekey is not None:
                self.diagnostics.warning(
                    "flush_interval is ignored: with the chunk key time, flush_mode is lazy", place,
                    section=element.title, hint="set flush_mode interval to have both",
                )  # fmt: skip
        saves = element.get("@id") and self.structure.system.root_dir
        if buffer.flush_at_shutdown is False and buffer.type == "memory" and not saves:
            self.diagnostics.warning(
                "flush_at_shutdown false with a memory buffer: what it holds is lost at a stop", place,
                section=element.title,
            )  # fmt: skip
        if keys.tag + len(keys.fields) >= _MANY_KEYS:
            self.diagnostics.warning("many chunk keys may give many chunks", place, section=element.title)
        packing = codec(buffer.compress, buffer.decompression_size_limit)
        return BufferedOutput(
            plugin, context, secondary=plugin.secondary, pack=packing.pack,
            buffer=self.buffers.make(plugin, context, packing, element),
        )  # fmt: skip

    def context(
        self, plugin_id: str, kind: str, type_name: str, home: str, *, element: Element | None = None,
        level: str | None = None,
    ) -> PluginContext:  # fmt: skip
        return PluginContext(
            plugin_id=plugin_id,
            type_name=type_name,
            argument=element.argument if element is not None else "",
            label=element.get("@label") if element is not None else None,
            home=home,
            log=self.log.of(plugin_id, level),
            sink=self.log,
            counters=Counters(
                plugin_id, kind, type_name, sized=bool(self.structure.system.enable_size_metrics)
            ),
            routes=self.routes,
            worker_id=self.worker_id,
            hostname=self.hostname,
            root_dir=self.structure.system.root_dir,
            dir_permission=self.mode("dir_permission", 0o755),
            file_permission=self.mode("file_permission", 0o644),
            check_only=self.check_only,
        )

    def mode(self, name: str, default: int) -> int:
        value = self.structure.system.mode(name)
        return default if value is None else value

    def invent_id(self, kind: str, type_name: str) -> str:
        """`in_syslog`, `in_syslog.2`, ...: by position in the file."""
        base = f"{_PREFIX.get(kind, kind)}_{type_name}"
        name, number = base, 1
        while name in self.ids:
            number += 1
            name = f"{base}.{number}"
        self.ids.add(name)
        return name

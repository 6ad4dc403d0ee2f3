"""The top level of a configuration: sources, routes, labels, as the engine walks them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from forwarder.config.diagnostics import Diagnostics, nearest
from forwarder.config.element import Element, Parameter, Position
from forwarder.config.system import SystemConfig, read_system

ROOT_LABEL: Final = "@ROOT"
ERROR_LABEL: Final = "@ERROR"
LOG_LABEL: Final = "@FLUENT_LOG"
_KINDS: Final = {"source": "input", "filter": "filter", "match": "output"}
_TOP: Final = ("source", "filter", "match", "label", "system", "worker")


class PluginSpec(NamedTuple):
    """One plugin of the top level or of a label."""

    kind: str
    """"input", "filter" or "output"."""
    type_name: str
    element: Element
    pattern: str
    """The tag pattern as written; `**` where none is. Empty for an input."""
    label: str | None
    """`@label`."""
    id: str | None
    """`@id`."""
    log_level: str | None
    """`@log_level`."""


class LabelSpec(NamedTuple):
    """A `<label>`: its filters and matches in order."""

    name: str
    element: Element
    routes: tuple[PluginSpec, ...]


class Structure(NamedTuple):
    """Everything that the engine makes."""

    root: Element
    system: SystemConfig
    sources: tuple[PluginSpec, ...]
    routes: tuple[PluginSpec, ...]
    """Filters and matches outside of labels, in order."""
    labels: dict[str, LabelSpec]
    narrow: frozenset[int] = frozenset()
    """`id` of the elements that a `<worker>` section gives to some workers only."""

    def plugins(self) -> Iterator[PluginSpec]:
        """All of them, sources first."""
        yield from self.sources
        yield from self.routes
        for label in self.labels.values():
            yield from label.routes


def read_structure(
    root: Element, diagnostics: Diagnostics, *, worker_id: int | None = None, workers: int | None = None
) -> Structure:
    """Sorts the top level. Problems go to `diagnostics`; what is sound is in the result anyway.

    Args:
        worker_id: leaves out what is for other workers; None: for all of them. workers: how many there are,
        instead of what the configuration says.
    """
    system = read_system(root, diagnostics)
    if workers is not None:
        system.workers = workers
    for found in root.params.values():
        diagnostics.warning(
            f"parameter {found.name!r} at top level is not used", found.position, param=found.name
        )
    top, narrow = _flatten(root, diagnostics, system.workers, worker_id)
    sources: list[PluginSpec] = []
    routes: list[PluginSpec] = []
    labels: dict[str, LabelSpec] = {}
    for element in top:
        if element.name == "source":
            sources += _plugin(element, diagnostics)
        elif element.name in ("filter", "match"):
            routes += _plugin(element, diagnostics)
        elif element.name == "label":
            _label(element, labels, diagnostics)
        elif element.name not in _TOP:
            meant = nearest(element.name, list(_TOP))
            diagnostics.warning(
                f"section <{element.name}> at top level is not used", element.position,
                hint=f"did you mean <{meant}>?" if meant else f"expected one of: {', '.join(_TOP)}",
            )  # fmt: skip
    structure = Structure(root, system, tuple(sources), tuple(routes), labels, narrow)
    _check_ids(root, diagnostics)
    _check_labels(structure, diagnostics)
    return structure


def _flatten(
    root: Element, diagnostics: Diagnostics, workers: int, worker_id: int | None
) -> tuple[list[Element], frozenset[int]]:
    """The top level with the content of `<worker>` sections behind it, as Fluentd has it; and which elements
    came from such sections."""
    top = [element for element in root.elements if element.name != "worker"]
    narrow: set[int] = set()
    used: set[int] = set()
    for worker in root.children("worker"):
        numbers = _worker_ids(worker, workers, diagnostics)
        for number in sorted(used.intersection(numbers)) if "-" in worker.argument else ():
            diagnostics.error(
                f"<worker {worker.argument}>: worker {number} has a section already", worker.position
            )
        if "-" in worker.argument:
            used.update(numbers)
        for element in worker.elements:
            if element.name not in ("source", "filter", "match", "label"):
                diagnostics.error(
                    f"<worker> section cannot have a <{element.name}> section", element.position
                )
            elif numbers and (worker_id is None or worker_id in numbers):
                top.append(element)
                narrow.update(id(each) for each in element.walk())
    return top, frozenset(narrow)


def _leading_number(text: str) -> int:
    """As Ruby's `to_i`."""
    digits = re.match(r"\s*(\d*)", text, re.ASCII)
    return int(digits[1] or 0) if digits else 0


def _worker_ids(worker: Element, workers: int, diagnostics: Diagnostics) -> range:
    """The workers that a `<worker N>` or `<worker N-M>` is for; empty where that is an error."""
    argument = worker.argument
    first, dash, last = argument.partition("-")
    if not argument:
        diagnostics.error("<worker> needs an argument: the worker's number", worker.position)
        return range(0)
    low, high = _leading_number(first), _leading_number(last or first)
    if not first.isdecimal() or (dash and not last.isdecimal()):
        diagnostics.warning(
            f"<worker {argument}>: expected a number such as 0, or two such as 0-1; taken for {low}-{high}, "
            "as by Fluentd", worker.position,
        )  # fmt: skip
    if low > high:
        diagnostics.error(f"<worker {argument}>: the smaller number stands first", worker.position)
        return range(0)
    if high >= workers:
        known = "there is only worker 0" if workers == 1 else f"workers are 0 to {workers - 1}"
        diagnostics.error(f"<worker {argument}>: {known}", worker.position, hint="set workers in <system>")
        return range(0)
    return range(low, high + 1)


def _plugin(element: Element, diagnostics: Diagnostics) -> list[PluginSpec]:
    type_name = element.get("@type")
    if not type_name:
        old = next((name for name in element.params if name.lower().lstrip("@") in ("type", "typ")), None)
        diagnostics.error(
            f"missing '@type' parameter in {element.title}: it names the plugin", element.position,
            param="@type", hint=f"did you mean @type by {old}?" if old else "",
        )  # fmt: skip
        return []
    return [
        PluginSpec(
            _KINDS[element.name],
            type_name,
            element,
            "" if element.name == "source" else element.argument or "**",
            element.get("@label"),
            element.get("@id"),
            element.get("@log_level"),
        )
    ]


def _label(element: Element, labels: dict[str, LabelSpec], diagnostics: Diagnostics) -> None:
    name = element.argument
    if not name:
        diagnostics.error("missing argument of <label>: its name, such as <label @MAIN>", element.position)
        return
    if name == ROOT_LABEL:
        diagnostics.error("<label @ROOT> is not permitted: @ROOT stands for the top level", element.position)
        return
    if name in labels:
        first = labels[name].element
        diagnostics.error(
            f"section <label {name}> appears twice", element.position,
            hint=f"the first one is in {first.file}:{first.line}; put all into one section",
        )  # fmt: skip
        return
    routes: list[PluginSpec] = []
    for child in element.elements:
        if child.name in ("filter", "match"):
            routes += _plugin(child, diagnostics)
        else:
            diagnostics.warning(
                f"section <{child.name}> is not used in <label {name}>: only filter and match are",
                child.position,
            )
    if not element.children("match"):
        diagnostics.error(
            f"missing <match> in <label {name}>: where its events go", element.position, section=element.title
        )
    for found in element.params.values():
        diagnostics.warning(
            f"parameter {found.name!r} in <label {name}> is not used", found.position, param=found.name
        )
    labels[name] = LabelSpec(name, element, tuple(routes))


def _plugin_elements(element: Element) -> Iterator[Element]:
    """All sections below that may carry reserved parameters; a `<record>` holds fields, no parameters."""
    for child in element.elements:
        if child.name != "record":
            yield child
            yield from _plugin_elements(child)


def _check_ids(root: Element, diagnostics: Diagnostics) -> None:
    seen: dict[str, Position] = {}
    for element in _plugin_elements(root):
        found = element.params.get("@id")
        if found is None or not found.value:
            continue
        if found.value in seen:
            first = seen[found.value]
            diagnostics.error(
                f"duplicated plugin id: @id {found.value} is used twice", found.position, param="@id",
                hint=f"the first one is in {first.source.path}:{first.line}",
            )  # fmt: skip
        else:
            seen[found.value] = found.position


def _label_uses(structure: Structure) -> Iterator[Parameter]:
    for spec in structure.plugins():
        for element in (spec.element, *_plugin_elements(spec.element)):
            found = element.params.get("@label")
            if found is not None and found.value:
                yield found


def _check_labels(structure: Structure, diagnostics: Diagnostics) -> None:
    used = {ERROR_LABEL, LOG_LABEL}
    for found in _label_uses(structure):
        name = found.value or ""
        used.add(name)
        if name != ROOT_LABEL and name not in structure.labels:
            meant = nearest(name, list(structure.labels))
            diagnostics.error(
                f"label {name} is not defined", found.position, param="@label",
                hint=f"did you mean {meant}?" if meant else f"add a <label {name}> section",
            )  # fmt: skip
    for name, label in structure.labels.items():
        if name not in used:
            diagnostics.warning(
                f"label {name} is not used: nothing sends events to it", label.element.position
            )

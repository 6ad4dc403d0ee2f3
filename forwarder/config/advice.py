"""What runs as Fluentd runs it, but hardly as meant: findings of `forwarder check`."""

from __future__ import annotations

from forwarder.api.errors import ConfigError
from forwarder.config.diagnostics import Diagnostics
from forwarder.config.patterns import TagPattern, covers
from forwarder.config.structure import PluginSpec, Structure


def check_patterns(structure: Structure, diagnostics: Diagnostics) -> None:
    """Errors for tag patterns that are none."""
    for spec in structure.plugins():
        if spec.kind != "input":
            try:
                TagPattern(spec.pattern)
            except ConfigError as error:
                diagnostics.error(error.message, spec.element.position, section=spec.element.title)


def advise(structure: Structure, diagnostics: Diagnostics) -> None:
    """Warnings about routes that no event can take."""
    _routes(structure.routes, "at top level", diagnostics)
    for label in structure.labels.values():
        _routes(label.routes, f"in <label {label.name}>", diagnostics)
    if not structure.sources:
        diagnostics.warning("there is no <source>: nothing will be received", structure.root.position)
    unlabelled = [spec for spec in structure.sources if spec.label is None]
    if unlabelled and not any(route.kind == "output" for route in structure.routes):
        diagnostics.warning(
            "there is no <match> at top level: events of this source go nowhere",
            unlabelled[0].element.position,
            section=unlabelled[0].element.title,
            hint="add a <match>, or an @label to the source",
        )


def _routes(routes: tuple[PluginSpec, ...], where: str, diagnostics: Diagnostics) -> None:
    matches: list[PluginSpec] = []
    last = max((at for at, route in enumerate(routes) if route.kind == "output"), default=-1)
    for at, route in enumerate(routes):
        element = route.element
        hiding = next((match for match in matches if covers(match.pattern, route.pattern)), None)
        if hiding is not None:
            diagnostics.warning(
                f"{element.title} is unreachable: <match {hiding.pattern}> of line {hiding.element.line} "
                "takes all of its events",
                element.position,
                hint="the first <match> that fits takes an event; put this one before it",
            )
        elif route.kind == "filter" and at > last >= 0:
            diagnostics.warning(
                f"{element.title} comes after the last <match> {where}: it has no effect",
                element.position,
                hint="a filter works on events of matches after it; put it before them",
            )
        if route.kind == "output":
            matches.append(route)

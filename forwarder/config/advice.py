"""What runs as Fluentd runs it, but hardly as meant: findings of `forwarder check`."""

from __future__ import annotations

import re
from typing import Final

from forwarder.config.diagnostics import Diagnostics
from forwarder.config.structure import PluginSpec, Structure

_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_MAX_ALTERNATIVES: Final = 256


def advise(structure: Structure, diagnostics: Diagnostics) -> None:
    """Warnings about routes that no event can take."""
    _routes(structure.routes, "at top level", diagnostics)
    for label in structure.labels.values():
        _routes(label.routes, f"in <label {label.name}>", diagnostics)
        if not any(route.kind == "output" for route in label.routes):
            diagnostics.warning(
                f"<label {label.name}> has no <match>: its events go nowhere", label.element.position
            )
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


def covers(first: str, second: str) -> bool:
    """Whether every tag that matches `second` surely matches `first`; False where that is not clear."""
    firsts = _alternatives(first)
    return all(
        any(one == other or _covers(one.split("."), other.split(".")) for one in firsts)
        for other in _alternatives(second)
    )


def _alternatives(pattern: str) -> list[str]:
    """The pattern's words with their braces multiplied out."""
    done: list[str] = []
    todo = pattern.split()
    while todo and len(todo) + len(done) < _MAX_ALTERNATIVES:
        word = todo.pop()
        braces = None if word.startswith("/") else _BRACES.search(word)
        if braces is None:
            done.append(word)
        else:
            todo += [word[: braces.start()] + each + word[braces.end() :] for each in braces[1].split(",")]
    return done + todo


def _covers(first: list[str], second: list[str]) -> bool:
    """By parts: `**` covers any run of parts, `*` one part, a glob with text the words that it matches."""
    if first == ["**"]:
        return True
    if not first or not second:
        return not second and all(part == "**" for part in first)
    if any(part.startswith("/") or "\\" in part for part in (first[0], second[0])):
        return False
    if first[0] == "**":
        return _covers(first[1:], second) or _covers(first, second[1:])
    if second[0] == "**" or any("**" in part for part in (first[0], second[0])):
        return False
    return _part_covers(first[0], second[0]) and _covers(first[1:], second[1:])


def _part_covers(first: str, second: str) -> bool:
    if first in ("*", second):
        return True
    return "*" not in second and re.fullmatch(re.escape(first).replace(r"\*", ".*"), second) is not None

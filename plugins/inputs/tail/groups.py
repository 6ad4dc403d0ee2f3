"""`<group>`: files whose lines are limited together, found by their paths."""

from __future__ import annotations

import re
from typing import Any, Final

from forwarder.api import ConfigError, Section, duration, hash_, integer, regexp, sections

_ANY: Final = re.compile(".*")
_CONTAINERS: Final = re.compile(
    r"^/var/log/containers/(?P<podname>[a-z0-9]([-a-z0-9]*[a-z0-9])?(/[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)"
    r"_(?P<namespace>[^_]+)_(?P<container>.+)-(?P<docker_id>[a-z0-9]{64})\.log$"
)


class Rule(Section):
    """`<rule>`: files whose metadata match, and how many lines they may have."""

    match: Any = hash_(
        "Named group of the pattern -> regexp that its text must match.",
        {"namespace": _ANY, "podname": _ANY},
        of="regexp",
    )
    limit = integer("Lines of all these files within rate_period; -1: no limit, 0: none at all.", -1)

    def configure(self) -> None:
        if self.limit < -1:
            raise ConfigError(f"expected -1 or more, not {self.limit}", param="limit")


class GroupSection(Section):
    """`<group>`: limits for groups of files."""

    pattern = regexp("Named groups take metadata out of a file's path.", _CONTAINERS)
    rate_period = duration("Time for which the limits are.", 5.0)

    rule = sections(Rule, "A group of files and its limit.", name="rule", required=True)


class Groups:
    """Which group a path belongs to, by number."""

    def __init__(self, section: GroupSection) -> None:
        self._pattern = section.pattern
        names = sorted(section.pattern.groupindex, key=section.pattern.groupindex.__getitem__)
        self._names = names
        rules = sorted(section.rule, key=lambda rule: -len(rule.match))
        self.limits: list[tuple[int, float]] = []
        """(lines, seconds) per group; the last one is for all other files."""
        self._rules: list[re.Pattern[str]] = []
        known: set[str] = set()
        default = "_".join([_ANY.pattern] * len(names))
        rest = -1
        for rule in rules:
            key = "_".join(_source(rule.match.get(name, _ANY)) for name in names)
            if key in known:
                continue
            known.add(key)
            if key == default:
                rest = rule.limit
                continue
            self._rules.append(re.compile(key))
            self.limits.append((rule.limit, section.rate_period))
        self.limits.append((rest, section.rate_period))

    def find(self, path: str) -> int:
        """The number of a path's group."""
        match = self._pattern.search(path)
        if match is not None:
            metadata = "_".join(match.group(name) or "" for name in self._names)
            for number, rule in enumerate(self._rules):
                if rule.search(metadata):
                    return number
        return len(self._rules)


def _source(pattern: re.Pattern[str]) -> str:
    if pattern.pattern == _ANY.pattern:
        return pattern.pattern
    flags = "".join(
        letter
        for letter, flag in (("i", re.IGNORECASE), ("s", re.DOTALL), ("x", re.VERBOSE))
        if pattern.flags & flag
    )
    return f"(?{flags}:{pattern.pattern})"

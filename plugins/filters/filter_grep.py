"""Filter `grep`: keeps and drops events by regexps over their fields.

An event goes on if all `<regexp>` conditions match and no `<exclude>` condition does. `<and>` and `<or>`
sections say otherwise: of `<or>` regexps one is enough, and `<and>` excludes drop an event only together. A
missing field counts as an empty text, values other than text are matched as Ruby's `to_s` prints them, and
what is no UTF-8 as `?`.

*Delivery*: what does not match is dropped by this filter. An event whose match takes too many steps goes on,
with a warning; likewise one with a text, a number or a list of other things above a nested key.

*Differs from Fluentd*: in nothing known.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import ConfigError, EventBatch, Filter, Section, expression, sections, string

_NUMBERED = range(1, 21)

_Group = dict[str, tuple[str, bool]]
"""Key -> (pattern, whether it may stand in slashes)."""


class Condition(Section):
    """One regexp over one field."""

    key = string("The field: a name, or a record accessor such as `$.kubernetes.namespace`.")
    pattern = expression("The Ruby regexp.")


class Conditions(Section):
    """`<and>` or `<or>`: `<regexp>` sections, or `<exclude>` sections."""

    regexps = sections(Condition, "What events must match.", name="regexp")
    excludes = sections(Condition, "What drops events.", name="exclude")


class GrepFilter(Filter):
    """Keeps and drops events by regexps over their fields."""

    regexps = sections(Condition, "What events must match, all of them.", name="regexp")
    excludes = sections(Condition, "What drops events, each of them.", name="exclude")
    and_conditions = sections(Conditions, "Conditions that count only together.", name="and")
    or_conditions = sections(Conditions, "Conditions of which one is enough.", name="or")
    for _number in _NUMBERED:
        locals()[f"regexp{_number}"] = string(
            "`KEY PATTERN`: what events must match.", None, deprecated="Use <regexp> section"
        )
        locals()[f"exclude{_number}"] = string(
            "`KEY PATTERN`: what drops events.", None, deprecated="Use <exclude> section"
        )
    del _number

    def configure(self) -> None:
        """Compiles the conditions. Raises ConfigError."""
        super().configure()
        regexp_and = self._numbered("regexp")
        exclude_or = self._numbered("exclude")
        regexp_or: _Group = {}
        exclude_and: _Group = {}
        _add(regexp_and, self.regexps, "", "regexp")
        _add(exclude_or, self.excludes, "", "exclude")
        for name, given, regexps, excludes in (
            ("and", self.and_conditions, regexp_and, exclude_and),
            ("or", self.or_conditions, regexp_or, exclude_or),
        ):
            for conditions in given:
                if conditions.regexps and conditions.excludes:
                    raise ConfigError(f"do not specify both <regexp> and <exclude> in <{name}>", param=name)
                _add(regexps, conditions.regexps, f" in <{name}>", name)
                _add(excludes, conditions.excludes, f" in <{name}>", name)
        groups = (regexp_and, regexp_or, exclude_and, exclude_or)
        try:
            self._native = _native.Grep(
                *([(key, *pattern) for key, pattern in group.items()] for group in groups)
            )
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        """The events that go on."""
        kept, failed = self._native.apply(batch)
        if failed:
            self.log_repeated(
                "cannot match: too many steps, or no hash above the field; events go on", count=failed
            )
        return batch if kept is None else kept

    def _numbered(self, word: str) -> _Group:
        found: _Group = {}
        for number in _NUMBERED:
            name = f"{word}{number}"
            text: str | None = getattr(self, name)
            if text is None:
                continue
            key, _, pattern = text.partition(" ")
            if not pattern:
                raise ConfigError(f"{name} does not contain 2 parameters, a key and a regexp", param=name)
            if key in found:
                raise ConfigError(f"{name} contains a duplicated key, {key}", param=name)
            found[key] = (pattern, False)
        return found


def _add(group: _Group, conditions: list[Condition], where: str, param: str) -> None:
    for condition in conditions:
        if condition.key in group:
            raise ConfigError(f"duplicate key{where}: {condition.key}", param=param)
        group[condition.key] = (condition.pattern, True)

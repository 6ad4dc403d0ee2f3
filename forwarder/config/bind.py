"""From an element to a plugin or section with typed attributes."""

from __future__ import annotations

from typing import Any, Final, Protocol

from forwarder.api.errors import ConfigError
from forwarder.api.parameters import REQUIRED, Param, Section, SectionParam, declarations
from forwarder.api.plugin import Output, Plugin
from forwarder.config.compat import convert_flat, regexp_as_type
from forwarder.config.diagnostics import Diagnostics, nearest
from forwarder.config.element import OLD_RESERVED, RESERVED, Element, Parameter
from forwarder.config.secrets import MASK, mask_value, secret_name
from forwarder.config.types import convert

_KINDS: Final = {
    "string": "a text",
    "integer": "an integer",
    "float": "a number",
    "bool": "true or false",
    "size": "a size (like 64k, 8m)",
    "time": "a time (like 10s, 5m)",
    "array": "an array (like a,b or [\"a\",\"b\"])",
    "hash": "a hash (like a:1,b:2 or {\"a\":1})",
    "regexp": "a regexp (like /^a/)",
    "expression": "a regexp (like /^(?<a>.*)$/)",
}  # fmt: skip


class Factory(Protocol):
    """Makes the plugin of a sub-section: finds the class, makes, binds and configures it.

    Raises ConfigError (no such plugin), or reports to its own Diagnostics and gives None.
    """

    def __call__(self, kind: str, type_name: str, element: Element) -> Plugin | None: ...


def bind(
    target: Plugin | Section, element: Element, factory: Factory, diagnostics: Diagnostics, *, path: str = ""
) -> bool:
    """Sets every declared parameter and section of `target` from `element`.

    Sections are configured (`Section.configure`) too; `target.configure()` is the caller's, because a
    plugin needs its context for it (see `Diagnostics.located`). Plugins in sub-sections come from
    `factory(kind, type_name, element)`; what the owner declares as their defaults is in `element.defaults`.

    Args:
        path: titles of the sections around this one, for messages.

    Returns:
        Whether there was no error. All errors found are in `diagnostics`.
    """
    return _Binder(target, element, factory, diagnostics, path).run()


def bind_configured(
    target: Plugin | Section, element: Element, factory: Factory, diagnostics: Diagnostics, *, path: str = ""
) -> bool:
    """`bind`, then `target.configure()` if that went well; its ConfigError becomes an error at its line."""
    before = len(diagnostics.errors)
    if bind(target, element, factory, diagnostics, path=path):
        with diagnostics.located(element):
            target.configure()
    return len(diagnostics.errors) == before


class _Binder:
    def __init__(
        self,
        target: Plugin | Section,
        element: Element,
        factory: Factory,
        diagnostics: Diagnostics,
        path: str,
    ) -> None:
        self.target = target
        self.element = element
        self.factory = factory
        self.diagnostics = diagnostics
        self.path = f"{path} > {element.title}" if path else element.title
        self.declared = declarations(type(target))
        self.given: set[str] = set()
        self.ok = True

    def run(self) -> bool:
        if isinstance(self.target, Plugin):
            self.convert_flat()
        sections: set[str] = set()
        for name, declaration in self.declared.items():
            if isinstance(declaration, Param):
                self.param(name, declaration)
            else:
                sections.add(declaration.section_name or name)
                self.section(name, declaration)
        if isinstance(self.target, Plugin):
            for reserved in RESERVED:
                self.element.parameter(reserved)
        self.target.given = frozenset(self.given)
        self.unknown(sections)
        return self.ok

    def convert_flat(self) -> None:
        try:
            moved = convert_flat(
                self.element,
                self.declared,
                buffer=isinstance(self.target, Output) and self.target.flat_buffer,
                flat=self.target.flat if isinstance(self.target, Plugin) else {},
            )
        except ConfigError as error:
            self.error(error.message, self.element.params.get(error.param or ""), error.param)
            return
        for section, names in moved:
            found = self.element.params[names[0]]
            self.diagnostics.note(
                f"{', '.join(names)}: old form, read as a <{section}> section", found.position,
                section=self.path, param=found.name,
            )  # fmt: skip

    def error(self, message: str, found: Parameter | None, name: str | None, hint: str = "") -> None:
        self.ok = False
        self.diagnostics.error(
            message, self.element.position if found is None else found.position,
            section=self.path, param=name, hint=hint, secret=name in self.element.secrets,
        )  # fmt: skip

    def warn(self, message: str, found: Parameter, hint: str = "") -> None:
        self.diagnostics.warning(
            message, found.position, section=self.path, param=found.name, hint=hint,
            secret=found.name in self.element.secrets,
        )  # fmt: skip

    def param(self, name: str, param: Param[Any]) -> None:
        default = self.element.defaults.get(name, param.default)
        if param.secret:
            self.element.secrets.update((name, param.alias or name))
        found = self.find(name, param)
        if found is None:
            if default is REQUIRED:
                self.missing(name, param)
            else:
                self.set(name, _fresh(default))
            return
        self.given.add(name)
        if param.obsolete is not None:
            self.error(f"{found.name} is already removed: {param.obsolete}", found, found.name)
            return
        if param.deprecated is not None:
            self.warn(f"{found.name} is deprecated: {param.deprecated}", found)
        if found.use_default:
            if default is REQUIRED:
                self.error(f"{found.name} has no default value for use_default", found, found.name)
            else:
                self.set(name, _fresh(default))
            return
        value = self.value(param, found, default)
        if value is REQUIRED:
            return
        if param.unsupported is not None and not _idle(value, default):
            self.error(f"{found.name} is not supported: {param.unsupported}", found, found.name)
            return
        self.set(name, value)

    def find(self, name: str, param: Param[Any]) -> Parameter | None:
        """The parameter's line: its name, its alias, or the section's argument."""
        found = self.element.parameter(name)
        if param.alias is not None:
            other = self.element.parameter(param.alias)
            found = found or other
        if found is None and isinstance(self.target, Section) and type(self.target).argument == name:
            text = self.element.argument
            if text:
                position = self.element.position
                found = Parameter(name, text, position, position)
        return found

    def value(self, param: Param[Any], found: Parameter, default: Any) -> Any:
        """The converted value, or REQUIRED after an error."""
        if found.value is None:
            if default is not None or param.never_nil:
                self.error(f"{found.name} is required, but nil is specified", found, found.name)
                return REQUIRED
            return None
        shown = MASK if param.secret or secret_name(found.name) else mask_value(found.value)
        try:
            value, remark = convert(param, found.value)
        except ConfigError as error:
            nil = default is None and not param.never_nil
            if param.kind == "bool" and nil and not self.diagnostics.strict:
                # Fluentd's own reading of such a value is nil, and nil is allowed here.
                self.warn(
                    f"{found.name}: {_hidden(error.message, found.value, shown)}; it counts as not set", found
                )
                return None
            self.error(f"{found.name}: {_hidden(error.message, found.value, shown)}", found, found.name)
            return REQUIRED
        if remark:
            text = f"{found.name}: {_hidden(remark, found.value, shown)}"
            if self.diagnostics.strict:
                self.error(text, found, found.name)
                return REQUIRED
            self.warn(text, found)
        return value

    def missing(self, name: str, param: Param[Any]) -> None:
        expected = " or ".join(param.values) if param.kind == "enum" else _KINDS.get(param.kind, "a value")
        if isinstance(self.target, Section) and type(self.target).argument == name:
            self.error(
                f"<{self.element.name} {name.upper()}> needs an argument: {expected}", None, name, param.doc
            )
            return
        unused = [each for each in self.element.params if each not in self.declared]
        meant = nearest(name, unused)
        hint = (
            f"did you mean {name} by {meant} in line {self.element.params[meant].position.line}?"
            if meant
            else ""
        )
        shown = name if param.alias is None or not param.alias.startswith("@") else param.alias
        self.error(
            f"{shown!r} parameter is required in {self.element.title}: {expected}", None, name,
            hint or f"{name}: {param.doc}",
        )  # fmt: skip

    def section(self, name: str, declared: SectionParam[Any]) -> None:
        section_name = declared.section_name or name
        found = self.element.children(section_name)
        for element in found:
            self.element.used.add(f"<{section_name}>")
            self.given.add(name)
            element.defaults = {**declared.defaults, **element.defaults}
        if not found:
            if declared.required:
                kind = f"; its @type says which {declared.kind}" if declared.kind is not None else ""
                self.error(
                    f"<{section_name}> section is required in {self.element.title}{kind}",
                    None,
                    section_name,
                    declared.doc,
                )
                return
            if not declared.init:
                self.set(name, [] if declared.multiple else {} if declared.free else None)
                return
            made = Element(section_name, "", self.element.position, synthetic=True)
            made.defaults = dict(declared.defaults)
            found = [made]
        if not declared.multiple and len(found) > 1:
            self.ok = False
            self.diagnostics.error(
                f"<{section_name}> section cannot be written twice in {self.element.title}",
                found[1].position, section=self.path, param=section_name,
                hint=f"the first one is in line {found[0].line}",
            )  # fmt: skip
            return
        values = [self.one(element, declared) for element in found]
        self.set(name, values if declared.multiple else values[0])

    def one(self, element: Element, declared: SectionParam[Any]) -> Any:
        if declared.free:
            return self.free(element)
        if declared.kind is not None:
            return self.plugin(element, declared)
        if declared.section is None:
            raise TypeError(
                f"{type(self.target).__name__}.{declared.name} declares neither a section nor a kind"
            )
        section = declared.section()
        if not bind_configured(section, element, self.factory, self.diagnostics, path=self.path):
            self.ok = False
        return section

    def free(self, element: Element) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for found in element.params.values():
            element.used.add(found.name)
            if found.use_default:
                values[found.name] = "default"  # there is none: as in Fluentd it is the word
            else:
                values[found.name] = found.value if found.native is None else found.native
        return values

    def plugin(self, element: Element, declared: SectionParam[Any]) -> Plugin | None:
        if declared.kind == "parser":
            regexp_as_type(element)
        type_name = element.get("@type") or declared.default
        if not type_name and declared.kind == "output" and not declared.multiple:
            type_name = self.element.get("@type")  # <secondary>: another of its owner's type
        if not type_name:
            self.ok = False
            self.diagnostics.error(
                f"missing '@type' parameter in {element.title}: which {declared.kind}?", element.position,
                section=self.path, param="@type",
            )  # fmt: skip
            return None
        before = len(self.diagnostics.errors)
        plugin = None
        share = None if declared.section is None else self.share(declared.section(), element)
        try:
            plugin = self.factory(declared.kind or "", type_name, element)
        except ConfigError as error:
            if error.param is None and "@type" in element.params:
                error.param = "@type"
            self.diagnostics.exception(error, element)
        if len(self.diagnostics.errors) != before:
            self.ok = False
        if plugin is not None:
            plugin.share = share
        return plugin

    def share(self, share: Section, element: Element) -> Section:
        """Binds those parameters of a plugin's section that are its owner's."""
        binder = _Binder(share, element, self.factory, self.diagnostics, self.path)
        for name, declaration in binder.declared.items():
            if isinstance(declaration, Param):
                binder.param(name, declaration)
        share.given = frozenset(binder.given)
        with self.diagnostics.located(element):
            share.configure()
        return share

    def unknown(self, sections: set[str]) -> None:
        names = [name for name, value in self.declared.items() if isinstance(value, Param)]
        for found in self.element.params.values():
            if found.name in self.element.used or found.name in RESERVED:
                continue
            if isinstance(self.target, Plugin) and found.name in OLD_RESERVED:
                continue
            meant = nearest(found.name, names)
            self.warn(
                f"parameter {found.name!r} in {self.element.title} is not used", found,
                f"did you mean {meant}?" if meant else "",
            )  # fmt: skip
        for child in self.element.elements:
            if child.name not in sections and f"<{child.name}>" not in self.element.used:
                meant = nearest(child.name, sorted(sections))
                self.diagnostics.warning(
                    f"section <{child.name}> is not used in {self.element.title}", child.position,
                    section=self.path, hint=f"did you mean <{meant}>?" if meant else "",
                )  # fmt: skip

    def set(self, name: str, value: Any) -> None:
        setattr(self.target, name, value)


def _fresh(default: Any) -> Any:
    """A default that the instance may change."""
    return default.copy() if isinstance(default, list | dict) else default


def _idle(value: Any, default: Any) -> bool:
    """Whether setting an unsupported parameter to this asks for nothing."""
    return value == default or (default is None and value is False)


def _hidden(message: str, value: str, shown: str) -> str:
    if value == shown or not value:
        return message
    return message.replace(repr(value), shown).replace(value, shown)

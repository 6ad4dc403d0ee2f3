"""Declaring a plugin's parameters.

A parameter is a class attribute; the declaration is all there is::

    class UdpInput(Input):
        port = integer("Port to listen on.", 5160)
        tag = string("Tag of the events.")                      # no default: required
        source_address_key = string("Field for the sender's address.", None)

Configuration, validation, messages, `forwarder plugins show` and the reference are made from it. On an
instance the attribute is the value, with the type that the declaration says. Types are Fluentd's:
string, integer, float, bool, enum, size (bytes), time (seconds), array, hash, regexp.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, overload

if TYPE_CHECKING:
    from forwarder.api.plugin import Formatter, Output, Parser, Plugin

T = TypeVar("T")
S = TypeVar("S", bound="Section")


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Final = _Required()


class Param(Generic[T]):
    """One declared parameter. Read-only after declaration.

    Attributes:
        kind: Fluentd's type name ("string", "integer", "float", "bool", "enum", "size", "time", "array",
            "hash", "regexp", "any").
        default: the value if absent, or REQUIRED.
        values: an enum's words; element type ("string", "integer", ...) for arrays and hashes in `of`.
        alias: another accepted name. deprecated: a warning's text. obsolete: an error's text.
        unsupported: why this Fluentd parameter is refused here when it is set.
        secret: never printed.
        never_nil: `use_nil`, and a bool that is none, are errors although the default is None.
    """

    __slots__ = (
        "alias", "default", "deprecated", "doc", "kind", "name", "never_nil", "obsolete", "of", "secret",
        "unsupported", "values",
    )  # fmt: skip

    def __init__(
        self,
        kind: str,
        doc: str,
        default: T | _Required,
        *,
        values: tuple[str, ...] = (),
        of: str | None = None,
        alias: str | None = None,
        secret: bool = False,
        deprecated: str | None = None,
        obsolete: str | None = None,
        unsupported: str | None = None,
        never_nil: bool = False,
    ) -> None:
        self.kind = kind
        self.doc = doc
        self.default = default
        self.values = values
        self.of = of
        self.alias = alias
        self.secret = secret
        self.deprecated = deprecated
        self.obsolete = obsolete
        self.unsupported = unsupported
        self.never_nil = never_nil
        self.name = ""

    @property
    def required(self) -> bool:
        """Whether the configuration must give it."""
        return self.default is REQUIRED

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, obj: None, owner: type) -> Param[T]: ...
    @overload
    def __get__(self, obj: object, owner: type) -> T: ...
    def __get__(self, obj: object | None, owner: type) -> Param[T] | T:
        # Not a data descriptor: once bound, the instance's own attribute is found first.
        if obj is None:
            return self
        if self.default is REQUIRED:
            raise AttributeError(f"{owner.__name__}.{self.name} is required and not configured")
        return cast(T, self.default)


class _Kind(Generic[T]):
    """Makes parameters of one kind: `kind(doc)` required, `kind(doc, default)` optional."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    @overload
    def __call__(
        self, doc: str, *, of: str | None = ..., alias: str | None = ..., secret: bool = ...,
        deprecated: str | None = ..., obsolete: str | None = ..., unsupported: str | None = ...,
    ) -> Param[T]: ...  # fmt: skip
    @overload
    def __call__(
        self, doc: str, default: None, *, of: str | None = ..., alias: str | None = ..., secret: bool = ...,
        deprecated: str | None = ..., obsolete: str | None = ..., unsupported: str | None = ...,
        never_nil: bool = ...,
    ) -> Param[T | None]: ...  # fmt: skip
    @overload
    def __call__(
        self, doc: str, default: T, *, of: str | None = ..., alias: str | None = ..., secret: bool = ...,
        deprecated: str | None = ..., obsolete: str | None = ..., unsupported: str | None = ...,
    ) -> Param[T]: ...  # fmt: skip
    def __call__(self, doc: str, default: Any = REQUIRED, **more: Any) -> Param[Any]:
        return Param(self._kind, doc, default, **more)


string: Final = _Kind[str]("string")
integer: Final = _Kind[int]("integer")
float_: Final = _Kind[float]("float")
boolean: Final = _Kind[bool]("bool")
size: Final = _Kind[int]("size")
"""Bytes; `k`, `m`, `g`, `t` multiply by powers of 1024."""
duration: Final = _Kind[float]("time")
"""Seconds; `s`, `m`, `h`, `d` multiply."""
array: Final = _Kind[list[Any]]("array")
hash_: Final = _Kind[dict[str, Any]]("hash")
regexp: Final = _Kind[re.Pattern[str]]("regexp")
"""A Python pattern made from `/.../imx`; for what runs per batch. Per event: a native parser."""
expression: Final = _Kind[str]("expression")
"""The source of a regexp as written, slashes and flags included, for the native compiler."""


@overload
def enum(
    doc: str, values: tuple[str, ...], *, alias: str | None = ..., deprecated: str | None = ...,
    obsolete: str | None = ..., unsupported: str | None = ...,
) -> Param[str]: ...  # fmt: skip
@overload
def enum(
    doc: str, values: tuple[str, ...], default: None, *, alias: str | None = ...,
    deprecated: str | None = ..., obsolete: str | None = ..., unsupported: str | None = ...,
) -> Param[str | None]: ...  # fmt: skip
@overload
def enum(
    doc: str, values: tuple[str, ...], default: str, *, alias: str | None = ..., deprecated: str | None = ...,
    obsolete: str | None = ..., unsupported: str | None = ...,
) -> Param[str]: ...  # fmt: skip
def enum(doc: str, values: tuple[str, ...], default: Any = REQUIRED, **more: Any) -> Param[Any]:
    """One of `values`."""
    return Param("enum", doc, default, values=values, **more)


class Section:
    """A sub-section's declared parameters: subclass it, declare as in a plugin, use `section(...)`."""

    argument: str | None = None
    """Name of the parameter that the section's argument (`<client ARG>`) sets, if it takes one."""
    given: frozenset[str] = frozenset()
    """Names of the parameters and sections that the configuration sets (rather than a default)."""

    def configure(self) -> None:
        """Validates and derives. Raises ConfigError."""


class SectionParam(Generic[T]):
    """A declared sub-section; on an instance the bound section (or None, or a list of them)."""

    def __init__(
        self, doc: str, *, section: type[Section] | None, kind: str | None, name: str | None, multiple: bool,
        required: bool, init: bool, default: str | None, free: bool = False,
        defaults: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.doc = doc
        self.section = section
        self.kind = kind  # plugin kind: "parser", "formatter", "output", "buffer", ...; None: plain section
        self.section_name = name
        self.multiple = multiple
        self.required = required
        self.init = init  # made with its defaults where the configuration has none
        self.default = default  # default @type of a plugin section
        self.free = free  # any parameter names; the value is dict[str, str]
        self.defaults = defaults or {}  # this plugin's own defaults for the section's parameters
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.section_name = self.section_name or name

    @overload
    def __get__(self, obj: None, owner: type) -> SectionParam[T]: ...
    @overload
    def __get__(self, obj: object, owner: type) -> T: ...
    def __get__(self, obj: object | None, owner: type) -> SectionParam[T] | T:
        if obj is None:
            return self
        return cast(T, [] if self.multiple else None)


def section(
    cls: type[S], doc: str, *, name: str | None = None, defaults: dict[str, Any] | None = None
) -> SectionParam[S]:
    """A section that always exists, with defaults where the configuration has none."""
    return SectionParam(doc, section=cls, kind=None, name=name, multiple=False, required=False, init=True,
                        default=None, defaults=defaults)  # fmt: skip


def optional_section(cls: type[S], doc: str, *, name: str | None = None) -> SectionParam[S | None]:
    """A section that may be absent: None then."""
    return SectionParam(doc, section=cls, kind=None, name=name, multiple=False, required=False, init=False,
                        default=None)  # fmt: skip


def sections(cls: type[S], doc: str, *, name: str, required: bool = False) -> SectionParam[list[S]]:
    """A section that may stand several times."""
    return SectionParam(doc, section=cls, kind=None, name=name, multiple=True, required=required, init=False,
                        default=None)  # fmt: skip


def parser_section(
    doc: str, *, default: str | None = None, defaults: dict[str, Any] | None = None
) -> SectionParam[Parser]:
    """`<parse>`: a parser plugin; without `default` its `@type` is required."""
    return SectionParam(doc, section=None, kind="parser", name="parse", multiple=False,
                        required=default is None, init=True, default=default, defaults=defaults)  # fmt: skip


def formatter_section(
    doc: str, *, default: str, defaults: dict[str, Any] | None = None
) -> SectionParam[Formatter]:
    """`<format>`: a formatter plugin."""
    return SectionParam(doc, section=None, kind="formatter", name="format", multiple=False, required=False,
                        init=True, default=default, defaults=defaults)  # fmt: skip


def free_section(doc: str, *, name: str | None = None) -> SectionParam[dict[str, Any]]:
    """A section with any parameter names (`<record>`): a dict, empty where it is absent.

    Values are str; None for `use_nil`; from a YAML configuration also int, float, bool and list.
    """
    return SectionParam(doc, section=None, kind=None, name=name, multiple=False, required=False, init=False,
                        default=None, free=True)  # fmt: skip


def free_sections(doc: str, *, name: str) -> SectionParam[list[dict[str, Any]]]:
    """As `free_section`, for a section that may stand several times."""
    return SectionParam(doc, section=None, kind=None, name=name, multiple=True, required=False, init=False,
                        default=None, free=True)  # fmt: skip


def output_sections(
    doc: str, *, name: str, section: type[Section] | None = None
) -> SectionParam[list[Output]]:
    """Sections that are outputs themselves (`<store>`); each gets its own delivery. Their argument is
    in `plugin.context.argument`. `section`: parameters in them that are the outer output's; they are in
    `plugin.share`."""
    return SectionParam(doc, section=section, kind="output", name=name, multiple=True, required=True,
                        init=False, default=None)  # fmt: skip


def declarations(cls: type[Plugin] | type[Section]) -> dict[str, Param[Any] | SectionParam[Any]]:
    """All that `cls` declares, inherited ones first, by attribute name."""
    found: dict[str, Param[Any] | SectionParam[Any]] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Param | SectionParam):
                found[name] = value
            elif name in found and value is None:
                del found[name]  # `name = None` in a subclass withdraws an inherited declaration
    return found

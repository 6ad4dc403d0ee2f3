"""From sections to plugins with typed attributes, and what is said about those that do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.api import (
    ConfigError,
    Formatter,
    Input,
    Output,
    Parser,
    Plugin,
    Section,
    array,
    boolean,
    duration,
    enum,
    expression,
    formatter_section,
    free_section,
    integer,
    optional_section,
    output_sections,
    parser_section,
    section,
    sections,
    size,
    string,
)
from forwarder.config import Diagnostics, Element, bind, bind_configured, parse_text, render


class LineParser(Parser):
    expression = expression("Pattern.", None)
    time_key = string("Field of the time.", "time")
    message_key = string("Field of the line.", "message")
    types = string("Types.", None)


class Client(Section):
    argument = "host"
    host = string("Host.")
    port = integer("Port.", 1)


class Limits(Section):
    wait = duration("Wait.", 1.0)
    keys = array("Keys.", ["a"], of="string")

    def configure(self) -> None:
        if self.wait < 0:
            raise ConfigError("wait must not be negative", param="wait")


class LineInput(Input):
    port = integer("Port to listen on.", 5160)
    tag = string("Tag of the events.")
    mode = enum("Mode.", ("fast", "slow"), "fast")
    strict = boolean("Strict.", None)
    flag = boolean("Flag.", False)
    limit = size("Limit.", 1024, alias="body_size_limit")
    old = string("Old.", None, deprecated="use new")
    gone = string("Gone.", None, obsolete="removed in 1.0")
    workers = integer("Workers.", 1, unsupported="there is one")
    polling = boolean("Polling.", None, unsupported="not here")
    token = string("Token.", None, secret=True)
    code = integer("Code.", 1, secret=True)
    parse = parser_section("Parser.", default="line", defaults={"time_key": None})
    client = sections(Client, "Clients.", name="client")
    limits = section(Limits, "Limits.", defaults={"keys": ["b"]})
    extra = optional_section(Limits, "More.", name="more")
    record = free_section("Fields.")

    def configure(self) -> None:
        if self.port == 13:
            raise ConfigError("port 13 brings bad luck", param="port")
        if self.token == "forbidden-token":
            raise ConfigError(f"token {self.token} is refused", param="token")


class StoreOutput(Output):
    path = string("Path.", "x")
    stores = output_sections("Outputs.", name="store")


class PathOutput(Output):
    flat_buffer = True
    path = string("Path.", "x")


class LineFormatter(Formatter):
    message_key = string("Field of the line.", "message")
    time_type = string("Kind of time.", "string")


class FormatOutput(Output):
    format = formatter_section("Formatter.", default="other")


class Factory:
    """Binds what sub-sections ask for, as the engine does."""

    classes: dict[tuple[str, str], type[Plugin]] = {
        ("parser", "line"): LineParser,
        ("parser", "regexp"): LineParser,
        ("formatter", "line"): LineFormatter,
        ("output", "path"): PathOutput,
    }

    def __init__(self, diagnostics: Diagnostics) -> None:
        self.diagnostics = diagnostics

    def __call__(self, kind: str, type_name: str, element: Element) -> Plugin | None:
        if (kind, type_name) not in self.classes:
            raise ConfigError(f"unknown {kind} plugin {type_name!r}")
        plugin = self.classes[kind, type_name]()
        bind_configured(plugin, element, self, self.diagnostics)
        return plugin


def bound(cls: type[Any], body: str, diagnostics: Diagnostics) -> Any:
    (element,) = parse_text(f"<source>\n{body}\n</source>", "fluent.conf", diagnostics, env={}).elements
    plugin = cls()
    assert bind_configured(plugin, element, Factory(diagnostics), diagnostics) == (not diagnostics.errors)
    return plugin


def sound(body: str, cls: type[Any] = LineInput) -> Any:
    diagnostics = Diagnostics()
    plugin = bound(cls, body, diagnostics)
    assert diagnostics.items == []
    return plugin


def findings(body: str, cls: type[Any] = LineInput, *, strict: bool = False) -> str:
    diagnostics = Diagnostics(strict=strict)
    bound(cls, body, diagnostics)
    return diagnostics.render()


def test_defaults() -> None:
    plugin = sound("@type line\n@id a\n@label @B\n@log_level warn\ntag t")
    assert (plugin.tag, plugin.port, plugin.mode, plugin.limit) == ("t", 5160, "fast", 1024)
    assert (plugin.client, plugin.extra, plugin.record) == ([], None, {})
    assert (plugin.limits.wait, plugin.limits.keys) == (1.0, ["b"])
    assert (plugin.parse.time_key, plugin.parse.message_key) == (None, "message")
    assert plugin.given == {"tag"}


def test_defaults_are_not_shared() -> None:
    first, second = sound("tag t\n<more>\n</more>"), sound("tag t\n<more>\n</more>")
    first.extra.keys.append("z")
    assert second.extra.keys == ["a"]


def test_values() -> None:
    plugin = sound(
        "tag t\nport 1\nmode slow\nlimit 2k\nflag\nstrict no\nworkers 1\npolling false\n"
        "<client h1>\n port 2\n</client>\n<client>\n host h2\n</client>\n"
        '<limits>\n wait 5m\n keys x,y\n</limits>\n<record>\n a b\n @type c\n n "#{use_nil}"\n</record>\n'
        "<parse>\n @type regexp\n time_key t\n expression /(?<a>.)/\n</parse>"
    )
    assert (plugin.port, plugin.mode, plugin.limit, plugin.flag, plugin.strict) == (
        1,
        "slow",
        2048,
        True,
        False,
    )
    assert [(client.host, client.port) for client in plugin.client] == [("h1", 2), ("h2", 1)]
    assert (plugin.limits.wait, plugin.limits.keys) == (300.0, ["x", "y"])
    assert plugin.record == {"a": "b", "@type": "c", "n": None}
    assert (plugin.parse.time_key, plugin.parse.expression) == ("t", "/(?<a>.)/")


def test_use_default_and_use_nil() -> None:
    plugin = sound(
        'tag t\nport "#{use_default}"\ntoken "#{use_nil}"\n<parse>\n time_key "#{use_default}"\n'
        ' message_key "#{use_default}"\n</parse>'
    )
    assert (plugin.port, plugin.token, plugin.parse.time_key, plugin.parse.message_key) == (
        5160,
        None,
        None,
        "message",
    )


def test_an_alias_is_another_name() -> None:
    assert sound("tag t\nbody_size_limit 2k").limit == 2048


def test_a_store_in_a_store() -> None:
    plugin = sound("<store>\n @type path\n path a\n</store>\n<store>\n @type path\n</store>", StoreOutput)
    assert [store.path for store in plugin.stores] == ["a", "x"]


def test_a_secondary_has_its_owners_type() -> None:
    assert sound("@type path\n<secondary>\n path b\n</secondary>", PathOutput).secondary.path == "b"


@pytest.mark.parametrize(
    ("body", "mentions"),
    [
        ("port 1", ["error:", "'tag' parameter is required", "fluent.conf:1", "<source>"]),
        ("tga x", ["error:", "did you mean tag by tga in line 2"]),
        (
            "tag t\nmode quick",
            ["error:", "fluent.conf:3:1", "mode", "fast, slow", "quick", "mode quick\n   | ^"],
        ),
        ("tag t\nflag maybe", ["error:", "flag", "maybe", "true"]),
        ('tag t\nport "#{use_nil}"', ["error:", "port is required, but nil"]),
        ('tag "#{use_default}"', ["error:", "tag has no default value"]),
        ("tag t\ngone x", ["error:", "gone is already removed: removed in 1.0"]),
        ("tag t\nworkers 2", ["error:", "workers is not supported: there is one"]),
        ("tag t\npolling true", ["error:", "polling is not supported"]),
        ("tag t\nport 13", ["error:", "bad luck", "fluent.conf:3"]),
        (
            "tag t\n<limits>\nwait -1\n</limits>",
            ["error:", "wait must not be negative", "fluent.conf:4", "<limits>"],
        ),
        ("tag t\n<limits>\n</limits>\n<limits>\n</limits>", ["error:", "twice", "fluent.conf:5", "line 3"]),
        ("tag t\n<client>\n</client>", ["error:", "<client HOST> needs an argument", "<source> > <client>"]),
        ("tag t\n<parse>\n@type nope\n</parse>", ["error:", "unknown parser plugin 'nope'", "fluent.conf:4"]),
        ("tag t\nport 12abc", ["warning:", "port", "'12abc'", "12 is used"]),
        ("tag t\nstrict maybe", ["warning:", "strict", "maybe", "not set"]),
        ("tag t\nold x", ["warning:", "old is deprecated: use new"]),
        ("tag t\nprot 1", ["warning:", "parameter 'prot' in <source> is not used", "did you mean port?"]),
        ("tag t\n<prase>\n</prase>", ["warning:", "section <prase> is not used", "did you mean <parse>?"]),
        ("tag t\n<parse>\nexpresion /x/\n</parse>", ["warning:", "did you mean expression?", "<parse>"]),
    ],
)
def test_findings(body: str, mentions: list[str]) -> None:
    text = findings(body)
    for mention in mentions:
        assert mention in text
    assert text.count("error:") == sum(mention == "error:" for mention in mentions)


def test_all_errors_at_once() -> None:
    text = findings("mode x\nflag y\nworkers 7\n<client>\n</client>")
    assert text.count("error:") == 5


def test_strict_values() -> None:
    assert "error: port" in findings("tag t\nport 12abc", strict=True)
    assert "error: strict" in findings("tag t\nstrict maybe", strict=True)


def test_a_missing_section_and_a_missing_type() -> None:
    assert "<store> section is required" in findings("@type copy", StoreOutput)
    assert "missing '@type'" in findings("@type copy\n<store>\n</store>", StoreOutput)


def test_old_flat_parameters_become_sections() -> None:
    diagnostics = Diagnostics()
    plugin = bound(LineInput, "tag t\nformat /^(?<a>.*)$/\ntypes a:integer\nmessage_key m", diagnostics)
    assert isinstance(plugin.parse, LineParser)
    assert (plugin.parse.expression, plugin.parse.message_key) == ("/^(?<a>.*)$/", "m")
    assert plugin.parse.types == '{"a": "integer"}'
    assert [item.severity for item in diagnostics.items] == ["note"]


def test_old_flat_buffer_parameters() -> None:
    diagnostics = Diagnostics()
    plugin = bound(
        PathOutput,
        "@type path\nflush_interval 5s\nbuffer_chunk_limit 1m\ntime_slice_format %Y%m%d%H\nutc",
        diagnostics,
    )
    assert not diagnostics.errors
    buffer = plugin.buffer
    assert (buffer.flush_interval, buffer.chunk_limit_size, buffer.timekey) == (5.0, 1 << 20, 3600.0)
    assert (buffer.timekey_use_utc, buffer.chunk_keys, buffer.flush_mode) == (True, ["time"], "interval")
    diagnostics = Diagnostics()
    bound(PathOutput, "time_slice_format %Y\nutc\nlocaltime", diagnostics)
    assert "time_slice_format" in diagnostics.render()


def test_an_old_name_that_is_also_the_sections_name() -> None:
    diagnostics = Diagnostics()
    plugin = bound(FormatOutput, "format line\nmessage_key m\ntime_as_epoch", diagnostics)
    assert (plugin.format.message_key, plugin.format.time_type) == ("m", "unixtime")
    assert [item.severity for item in diagnostics.items] == ["note"]


def test_any_old_name_makes_the_section() -> None:
    diagnostics = Diagnostics()
    plugin = bound(LineInput, "tag t\nmessage_key m", diagnostics)
    assert plugin.parse.message_key == "m"
    assert [item.severity for item in diagnostics.items] == ["note"]


def test_buffer_parameters_count_only_where_the_output_takes_them() -> None:
    assert "'flush_interval' in <source> is not used" in findings(
        "path p\nflush_interval 5s\n<store>\n@type path\n</store>", StoreOutput
    )


SECRETS = (
    "hunter-2",
    "forbidden-token",
    "s3cr3t-pw",
    "AKIAABCDEFGHIJKLMNOP",
    "dG9rZW4tdG9rZW4",
    "jsonpw",
    "4711x",
)
SECRETIVE = """tag t
token forbidden-token
code 4711x
password "hunter-2"
url https://user:s3cr3t-pw@example.com/
key AKIAABCDEFGHIJKLMNOP
mode AKIAABCDEFGHIJKLMNOP
headers {"Authorization":"Bearer dG9rZW4tdG9rZW4","db_password":"jsonpw"}
<client>
  port s3cr3t-pw
  password hunter-2
</client>
"""


def test_no_secret_is_ever_printed() -> None:
    text = SECRETIVE.replace("port s3cr3t-pw", "port http://a:s3cr3t-pw@b")
    for strict in (False, True):
        diagnostics = Diagnostics(strict=strict)
        (element,) = parse_text(f"<source>\n{text}</source>", "fluent.conf", diagnostics).elements
        plugin = LineInput()
        bind(plugin, element, Factory(diagnostics), diagnostics)
        with diagnostics.located(element):
            plugin.configure()
        assert "token xxxxxx is refused" in diagnostics.render()
        for secret in SECRETS:
            assert secret not in diagnostics.render(), (secret, strict)
            assert secret not in render(element), (secret, strict)
    assert plugin.token == "forbidden-token"

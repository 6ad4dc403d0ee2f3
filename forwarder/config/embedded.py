"""Embedded Ruby, `"#{...}"`: the few expressions that configurations use, evaluated by us.

Literals, `nil`, `||`, `&&`, `!`, `+`, `==`, `!=`, `c ? a : b`, parentheses; `ENV['X']`,
`ENV.fetch('X', 'default')`, `ENV.key?('X')`; `hostname`, `Socket.gethostname`, `worker_id`; `use_nil`,
`use_default`; `File.read('path')`; methods without surprises (`ruby_methods`). What is none of these is left
to `api.expressions`, a larger part of Ruby, which knows no `use_nil` and only the environment of the process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

from forwarder.api.errors import ConfigError
from forwarder.config.ruby_methods import LIST_METHODS, STRING_METHODS, to_s
from forwarder.config.thunks import (
    Thunk,
    at,
    both,
    constant,
    either,
    hostname,
    plus,
    raiser,
    read,
    string,
    truth,
)

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<number>\d+)|(?P<name>[A-Za-z_][A-Za-z_0-9]*[?!]?)|(?P<op>\|\||&&|==|!=|&\.|::|[-+?!:.,()\[\]{}])"""
    r"""|(?P<quote>["']))"""
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "e": "\x1b", "s": " ", "f": "\f", "b": "\b"}
_MAX_DEPTH: Final = 50


class SetNil(Exception):  # noqa: N818 - a result, not a failure
    """`use_nil` was evaluated."""


class SetDefault(Exception):  # noqa: N818
    """`use_default` was evaluated."""


class NotSupportedError(ConfigError):
    """The expression is outside of the subset."""


class Embedded:
    """Evaluates embedded expressions against an environment.

    Values are str, int, float, bool, None and lists of these.
    """

    def __init__(self, env: Mapping[str, str] | None = None, worker_id: int = 0) -> None:
        self.env = os.environ if env is None else env
        self.worker_id = worker_id

    def text(self, source: str) -> str:
        """What `source` (between the braces) gives as text.

        Raises:
            SetNil, SetDefault: `use_nil` or `use_default` was reached.
            ConfigError: the expression is outside of the subset, or fails.
        """
        try:
            return to_s(_Evaluator(self, source).run())
        except NotSupportedError as refused:
            if self.env is not os.environ:
                raise
            from forwarder.api.expressions import evaluate  # noqa: PLC0415 - hardly a configuration needs it

            try:
                return evaluate(source)
            except ValueError as why:
                raise ConfigError(f"{refused.message}: {why}") from why


def find_end(text: str, start: int) -> int:
    """Offset of the `}` that closes an expression starting at `start`, or -1."""
    depth = 0
    at = start
    while at < len(text):
        char = text[at]
        if char in "\"'":
            at = _skip_quoted(text, at)
            if at < 0:
                return -1
            continue
        if char == "{":
            depth += 1
        elif char == "}":
            if depth == 0:
                return at
            depth -= 1
        at += 1
    return -1


def _skip_quoted(text: str, start: int) -> int:
    quote = text[start]
    at = start + 1
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text[at] == quote:
            return at + 1
        elif quote == '"' and text.startswith("#{", at):
            at = find_end(text, at + 2) + 1
            if at == 0:
                return -1
        else:
            at += 1
    return -1


class _Evaluator:
    """A recursive-descent parser that gives closures, so that only the chosen branch is evaluated."""

    def __init__(self, embedded: Embedded, source: str) -> None:
        self.embedded = embedded
        self.source = source
        self.at = 0
        self.depth = 0

    def run(self) -> Any:
        if len(self.source) > 10_000:
            raise ConfigError("embedded code is too long")
        if not self.source.strip():
            return None
        thunk = self.ternary()
        self.peek()
        if self.source[self.at :].strip():
            raise self.refuse()
        try:
            return thunk()
        except (TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise ConfigError(f"embedded code failed: #{{{self.source.strip()}}}: {error}") from error

    def refuse(self) -> NotSupportedError:
        return NotSupportedError(
            f"this embedded Ruby is not supported: #{{{self.source.strip()}}} "
            "(see docs/configuration.md, Embedded code)"
        )

    def peek(self) -> tuple[str, str]:
        """The next token's kind and text, without taking it."""
        found = _TOKEN.match(self.source, self.at)
        if found is None:
            return "", ""
        kind = found.lastgroup or ""
        return kind, found[kind]

    def take(self) -> tuple[str, str]:
        found = _TOKEN.match(self.source, self.at)
        if found is None:
            raise self.refuse()
        self.at = found.end()
        kind = found.lastgroup or ""
        return kind, found[kind]

    def accept(self, text: str) -> bool:
        if self.peek() == ("op", text):
            self.take()
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise self.refuse()

    def ternary(self) -> Thunk:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ConfigError("embedded code is nested too deeply")
        condition = self.alternative()
        if self.accept("?"):
            yes = self.ternary()
            self.expect(":")
            no = self.ternary()
            self.depth -= 1
            return lambda: yes() if truth(condition()) else no()
        self.depth -= 1
        return condition

    def alternative(self) -> Thunk:
        left = self.conjunction()
        while self.accept("||"):
            left = either(left, self.conjunction())
        return left

    def conjunction(self) -> Thunk:
        left = self.comparison()
        while self.accept("&&"):
            left = both(left, self.comparison())
        return left

    def comparison(self) -> Thunk:
        left = self.sum()
        if self.accept("=="):
            right = self.sum()
            return lambda: left() == right()
        if self.accept("!="):
            right = self.sum()
            return lambda: left() != right()
        return left

    def sum(self) -> Thunk:
        left = self.unary()
        while self.accept("+"):
            left = plus(left, self.unary())
        return left

    def unary(self) -> Thunk:
        negations = 0
        while self.accept("!"):
            negations += 1
        value = self.postfix()
        return value if not negations else lambda: truth(value()) == (negations % 2 == 0)

    def postfix(self) -> Thunk:
        value = self.primary()
        while True:
            if self.accept("."):
                value = self.method(value, safe=False)
            elif self.accept("&."):
                value = self.method(value, safe=True)
            elif self.peek() == ("op", "[") and self.source[self.at : self.at + 1] == "[":
                self.take()
                index = self.ternary()
                self.expect("]")
                value = at(value, index)
            else:
                return value

    def method(self, receiver: Thunk, *, safe: bool) -> Thunk:
        kind, name = self.take()
        if kind != "name":
            raise self.refuse()
        arguments = self.arguments()

        def call() -> Any:
            value = receiver()
            if safe and value is None:
                return None
            return self.call(value, name, [argument() for argument in arguments])

        return call

    def arguments(self) -> list[Thunk]:
        if not self.accept("("):
            return []
        found: list[Thunk] = []
        if self.accept(")"):
            return found
        found.append(self.ternary())
        while self.accept(","):
            found.append(self.ternary())
        self.expect(")")
        return found

    def call(self, value: Any, name: str, arguments: list[Any]) -> Any:
        if name == "to_s" and not arguments:
            return to_s(value)
        if name == "nil?" and not arguments:
            return value is None
        if name in ("to_i", "to_f") and not arguments and not isinstance(value, str | list | bool):
            number = 0 if value is None else value
            return int(number) if name == "to_i" else float(number)
        table = STRING_METHODS if isinstance(value, str) else LIST_METHODS if isinstance(value, list) else {}
        found = table.get((name, len(arguments)))
        if found is None:
            if value is None:
                raise ConfigError(
                    f"embedded code failed: #{{{self.source.strip()}}}: undefined method {name} for nil"
                )
            raise self.refuse()
        return found(value, *arguments)

    def primary(self) -> Thunk:
        kind, text = self.take()
        if kind == "number":
            number = int(text[:4000])
            return lambda: number
        if kind == "op" and text == "-" and self.peek()[0] == "number":
            negative = -int(self.take()[1][:4000])
            return lambda: negative
        if kind == "op" and text == "(":
            inner = self.ternary()
            self.expect(")")
            return inner
        if kind == "quote":
            return self.quoted(text)
        if kind == "name":
            return self.named(text)
        raise self.refuse()

    def named(self, name: str) -> Thunk:
        constants: dict[str, Any] = {"nil": None, "true": True, "false": False}
        if name in constants:
            return lambda: constants[name]
        if name == "use_nil":
            return raiser(SetNil)
        if name == "use_default":
            return raiser(SetDefault)
        if name == "hostname":
            return hostname
        if name == "worker_id":
            return lambda: str(self.embedded.worker_id)
        if name == "ENV":
            return self.environment()
        if name == "Socket" and self.accept(".") and self.take() == ("name", "gethostname"):
            return hostname
        if name == "File" and self.accept(".") and self.take() == ("name", "read"):
            (path,) = self.exactly(1)
            return lambda: read(path())
        raise self.refuse()

    def exactly(self, count: int) -> list[Thunk]:
        found = self.arguments()
        if len(found) != count:
            raise self.refuse()
        return found

    def environment(self) -> Thunk:
        env = self.embedded.env
        if self.accept("["):
            key = self.ternary()
            self.expect("]")
            return lambda: env.get(string(key()))
        self.expect(".")
        kind, method = self.take()
        if kind == "name" and method in ("key?", "has_key?", "include?"):
            (key,) = self.exactly(1)
            return lambda: string(key()) in env
        if kind != "name" or method != "fetch":
            raise self.refuse()
        arguments = self.arguments()
        if len(arguments) == 1 and self.accept("{"):
            arguments.append(self.ternary())
            self.expect("}")
        if len(arguments) == 2:
            key, default = arguments
            return lambda: env[string(key())] if string(key()) in env else default()
        if len(arguments) != 1:
            raise self.refuse()
        key = arguments[0]

        def fetch() -> str:
            name = string(key())
            if name not in env:
                raise ConfigError(f"environment variable {name} is not set (ENV.fetch without a default)")
            return env[name]

        return fetch

    def quoted(self, quote: str) -> Thunk:
        """A string literal; double-quoted ones may embed again."""
        parts: list[Thunk] = []
        text = ""
        while True:
            char = self.source[self.at : self.at + 1]
            if not char:
                raise self.refuse()
            self.at += 1
            if char == quote:
                break
            if char == "\\":
                escaped = self.source[self.at : self.at + 1]
                self.at += 1
                if quote == '"':
                    text += _ESCAPES.get(escaped, escaped)
                else:
                    text += escaped if escaped in ("'", "\\") else "\\" + escaped
            elif quote == '"' and char == "#" and self.source[self.at : self.at + 1] == "{":
                end = find_end(self.source, self.at + 1)
                if end < 0:
                    raise self.refuse()
                parts.append(constant(text))
                text = ""
                self.depth += 1
                if self.depth > _MAX_DEPTH:
                    raise ConfigError("embedded code is nested too deeply")
                parts.append(_nested(self.embedded, self.source[self.at + 1 : end]))
                self.at = end + 1
            else:
                text += char
        parts.append(constant(text))
        return lambda: "".join(part() for part in parts)


def _nested(embedded: Embedded, source: str) -> Thunk:
    return lambda: embedded.text(source)

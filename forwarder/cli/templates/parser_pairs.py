"""Parser `pairs`: `a=1;b=2` becomes {"a": "1", "b": "2"}."""

from collections.abc import Iterable

from forwarder.api import ConfigError, Parser, Record, string


class PairsParser(Parser):
    """Fields separated by one character, names and values by another."""

    separator = string("Between two fields.", ";")
    equals = string("Between a name and its value.", "=")

    def configure(self) -> None:
        if self.separator == self.equals:
            raise ConfigError("must differ from equals", param="separator")

    def parse(self, text: bytes) -> Iterable[tuple[int | None, Record]]:
        fields = [field.partition(self.equals) for field in text.decode().split(self.separator)]
        if all(equals for _, equals, _ in fields):  # else nothing is given: the line does not match
            yield None, {name: value for name, _, value in fields}

"""Schemas of Parquet objects: Avro's and BigQuery's JSON, as Arrow's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from forwarder.api import ConfigError

_AVRO: Final = {
    "null": "null", "boolean": "bool_", "int": "int32", "long": "int64", "float": "float32",
    "double": "float64", "bytes": "binary", "string": "string", "enum": "string",
}  # fmt: skip
_BIGQUERY: Final = {
    "STRING": "string", "BYTES": "binary", "INTEGER": "int64", "INT64": "int64", "FLOAT": "float64",
    "FLOAT64": "float64", "BOOLEAN": "bool_", "BOOL": "bool_", "DATE": "date32",
}  # fmt: skip
_UNITS: Final = {"timestamp-millis": "ms", "timestamp-micros": "us", "timestamp-nanos": "ns"}


class Schemas:
    """A schema file's columns.

    Attributes:
        read: how JSON is read. written: what these columns become in the object.
    """

    def __init__(self, kind: str, path: str) -> None:
        """Raises ConfigError: says what in the file cannot be used."""
        import pyarrow  # noqa: PLC0415 - costs tens of megabytes

        self._arrow = pyarrow
        try:
            with open(path, encoding="utf-8") as file:
                schema = json.load(file)
        except (OSError, ValueError) as error:
            raise ConfigError(f"schema_file {path}: {error}", param="schema_file") from error
        try:
            fields = self._avro(schema) if kind == "avro" else self._bigquery(schema)
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"schema_file {path} is no {kind} schema of a record: {error!r}",
                              param="schema_file") from error  # fmt: skip
        except ValueError as error:
            raise ConfigError(f"schema_file {path}: {error}", param="schema_file") from error
        self.read = pyarrow.schema([read for read, _ in fields])
        self.written = pyarrow.schema([written for _, written in fields])

    def _avro(self, schema: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        if schema["type"] != "record":
            raise ValueError("expected a record")
        return [self._avro_field(each) for each in schema["fields"]]

    def _avro_field(self, field: Mapping[str, Any]) -> tuple[Any, Any]:
        name, kind = field["name"], field["type"]
        nullable = False
        if isinstance(kind, list):
            others = [each for each in kind if each != "null"]
            nullable = len(others) < len(kind)
            if len(others) != 1:
                raise ValueError(f"{name}: a column has one type, or one and null")
            kind = others[0]
        read, written = self._avro_type(name, kind)
        make = self._arrow.field
        return make(name, read, nullable=nullable), make(name, written, nullable=nullable)

    def _avro_type(self, name: str, kind: Any) -> tuple[Any, Any]:
        arrow = self._arrow
        if isinstance(kind, str):
            if kind not in _AVRO:
                raise ValueError(f"{name}: the type {kind} cannot be a column")
            plain = getattr(arrow, _AVRO[kind])()
            return plain, plain
        if unit := _UNITS.get(kind.get("logicalType", "")):
            return arrow.int64(), arrow.timestamp(unit, "UTC")
        if kind.get("logicalType") == "date":
            return arrow.int32(), arrow.date32()
        if kind["type"] == "record":
            fields = self._avro(kind)
            return arrow.struct([read for read, _ in fields]), arrow.struct(
                [written for _, written in fields]
            )
        if kind["type"] == "array":
            read, written = self._avro_field({"name": "item", "type": kind["items"]})
            return arrow.list_(read), arrow.list_(written)
        return self._avro_type(name, kind["type"])

    def _bigquery(self, schema: Any) -> list[tuple[Any, Any]]:
        fields = schema["fields"] if isinstance(schema, dict) else schema
        return [(each, each) for each in map(self._bigquery_field, fields)]

    def _bigquery_field(self, field: Mapping[str, Any]) -> Any:
        arrow = self._arrow
        name, kind, mode = field["name"], field["type"].upper(), field.get("mode", "NULLABLE").upper()
        if kind in ("RECORD", "STRUCT"):
            made = arrow.struct([self._bigquery_field(each) for each in field["fields"]])
        elif kind in ("TIMESTAMP", "DATETIME"):
            made = arrow.timestamp("us", "UTC" if kind == "TIMESTAMP" else None)
        elif kind in ("NUMERIC", "DECIMAL"):
            made = arrow.decimal128(38, 9)
        elif kind in _BIGQUERY:
            made = getattr(arrow, _BIGQUERY[kind])()
        else:
            raise ValueError(f"{name}: the type {kind} cannot be a column")
        if mode == "REPEATED":
            return arrow.field(name, arrow.list_(made))  # an empty one may be left out
        return arrow.field(name, made, nullable=mode != "REQUIRED")

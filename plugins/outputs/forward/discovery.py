"""Service discovery: servers from a file or from DNS, looked at again and again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from threading import Event, Thread
from typing import Any, Final, Protocol

from forwarder.api import ConfigError
from forwarder.plugins.outputs.forward.sections import WEIGHT, Service, ServiceDiscovery

_LOOK_SECONDS: Final = 1.0
"""How often a file is looked at."""
_DNS_PORT: Final = 53


class Discovery(Protocol):
    """A place that names servers."""

    interval: float
    """Seconds between looks."""

    def services(self) -> list[Service] | None:
        """The servers as they are now; None: as before. Raises ConfigError, OSError."""


class FileDiscovery:
    """A list of servers in a YAML or JSON file."""

    interval = _LOOK_SECONDS

    def __init__(self, section: ServiceDiscovery) -> None:
        self._path = section.path
        self._encoding = section.conf_encoding
        ending = os.path.basename(section.path).partition(".")[2]
        self._json = ending == "json"
        self._seen: tuple[int, int, int] | None = None

    def services(self) -> list[Service] | None:
        try:
            state = os.stat(self._path)
            seen = (state.st_mtime_ns, state.st_size, state.st_ino)
            if seen == self._seen:
                return None
            with open(self._path, encoding=self._encoding) as file:
                text = file.read()
        except (OSError, UnicodeError, LookupError) as error:
            raise ConfigError(f"service discovery file {self._path}: {error}", param="path") from None
        self._seen = seen  # what is wrong is named once, not at every look
        entries = self._parse(text)
        if not isinstance(entries, list):
            raise ConfigError(
                f"service discovery file {self._path}: expected a list of servers", param="path"
            )
        return [self._service(number, entry) for number, entry in enumerate(entries, 1)]

    def _parse(self, text: str) -> Any:
        try:
            if self._json:
                return json.loads(text)
            import yaml  # noqa: PLC0415 - only who wants it needs it
        except ImportError:
            raise ConfigError(
                "YAML files need the package PyYAML: pip install 'forwarder[yaml]'", param="path"
            ) from None
        except ValueError as error:
            raise ConfigError(f"service discovery file {self._path}: {error}", param="path") from None
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"service discovery file {self._path}: {error}", param="path") from None

    def _service(self, number: int, entry: Any) -> Service:
        where = f"service discovery file {self._path}, server {number}"
        if not isinstance(entry, dict):
            raise ConfigError(f"{where}: expected host, port and so on", param="path")

        def value(name: str, kind: type, default: Any) -> Any:
            found = entry.get(name)
            if found is None:
                return default
            if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
                raise ConfigError(f"{where}: {name} must be {_WORDS[kind]}, not {found!r}", param="path")
            return found

        for needed in ("host", "port"):
            if entry.get(needed) is None:
                raise ConfigError(f"{where}: {needed} is missing", param="path")
        port = value("port", int, 0)
        if not 0 < port < 65536:
            raise ConfigError(f"{where}: port must be between 1 and 65535, not {port}", param="path")
        return Service(
            value("host", str, ""), port, value("name", str, None), value("weight", int, WEIGHT),
            value("standby", bool, False), value("username", str, ""), value("password", str, ""),
            value("shared_key", str, None),
        )  # fmt: skip


_WORDS: Final = {int: "an integer", str: "a text", bool: "true or false"}


class SrvDiscovery:
    """The SRV records of a service (RFC 2782)."""

    def __init__(self, section: ServiceDiscovery) -> None:
        """Raises ConfigError: no library for DNS is installed, or a server's address that is none."""
        try:
            import dns.resolver  # noqa: PLC0415 - only who wants it needs it
        except ImportError:
            raise ConfigError(
                "service discovery srv needs the package dnspython: pip install 'forwarder[srv]'",
                param="@type",
            ) from None
        self._section = section
        self.interval = float(section.interval)
        self._target = f"_{section.service}._{section.proto}.{section.hostname}"
        server = section.dns_server_host
        self._resolver = dns.resolver.Resolver(configure=server is None)
        if server is not None:
            host, _, port = server.partition(":")
            try:
                self._resolver.nameservers = [host]
                self._resolver.port = int(port or _DNS_PORT)
            except ValueError as error:
                raise ConfigError(f"dns_server_host {server!r}: {error}", param="dns_server_host") from None

    def services(self) -> list[Service] | None:
        import dns.exception  # noqa: PLC0415
        import dns.resolver  # noqa: PLC0415

        section = self._section
        try:
            records = sorted(
                self._resolver.resolve(self._target, "SRV"), key=lambda record: int(record.priority)
            )
            found = []
            for record in records:
                name = record.target.to_text(omit_final_dot=True)
                host = self._address(name) if section.dns_lookup else name
                # a weight of 0 says "no preference" (RFC 2782), not "never"
                found.append(
                    Service(
                        host, record.port, name, max(1, record.weight), False, section.username,
                        section.password, section.shared_key,
                    )
                )  # fmt: skip
        except dns.exception.DNSException as error:
            raise OSError(f"service discovery srv: {self._target}: {error}") from None
        return found or None

    def _address(self, name: str) -> str:
        import dns.resolver  # noqa: PLC0415

        try:
            answer = self._resolver.resolve(name, "A")
        except dns.resolver.NoAnswer:
            answer = self._resolver.resolve(name, "AAAA")
        return str(answer[0].address)


class Watcher:
    """Looks at a discovery until `stop`; `changed(services)` is called from its thread."""

    def __init__(
        self,
        discovery: Discovery,
        changed: Callable[[list[Service]], None],
        complain: Callable[[str], None],
    ) -> None:
        self._discovery = discovery
        self._changed = changed
        self._complain = complain
        self._stopped = Event()
        Thread(target=self._run, name="service discovery", daemon=True).start()

    def stop(self) -> None:
        """Returns at once."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._discovery.interval):
            try:
                services = self._discovery.services()
                if services is not None:
                    self._changed(services)
            except Exception as error:
                self._complain(f"the servers stay as they are: {error}")


def discovery(section: ServiceDiscovery) -> FileDiscovery | SrvDiscovery:
    """What looks for the servers of a section that is not `static`. Raises ConfigError."""
    return FileDiscovery(section) if section.type == "file" else SrvDiscovery(section)

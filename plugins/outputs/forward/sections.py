"""The sections of `out_forward`: `<server>`, `<security>`, `<service_discovery>`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from forwarder.api import ConfigError, Section, boolean, enum, integer, sections, string

PORT: Final = 24224
WEIGHT: Final = 60


@dataclass(frozen=True, slots=True)
class Service:
    """One server as the configuration or a service discovery names it."""

    host: str
    port: int = PORT
    name: str | None = None
    weight: int = WEIGHT
    standby: bool = False
    username: str = ""
    password: str = field(default="", repr=False)
    shared_key: str | None = field(default=None, repr=False)


class Server(Section):
    """`<server>`."""

    host = string("Address or name of the server.")
    name = string("Name for the log, and for the certificate where host is an address.", None)
    port = integer("Port of the server.", PORT)
    shared_key = string("Key of this server instead of that of <security>.", None, secret=True)
    username = string("User name, where the server asks for one.", "")
    password = string("Password of that user.", "", secret=True)
    standby = boolean("Used only while other servers are not available.", False)
    weight = integer("Share of the chunks, relative to the other servers; 0: none.", WEIGHT)

    def configure(self) -> None:
        if not 0 < self.port < 65536:
            raise ConfigError(f"port must be between 1 and 65535, not {self.port}", param="port")
        if self.weight < 0:
            raise ConfigError(f"weight must not be negative, but is {self.weight}", param="weight")

    def service(self) -> Service:
        """As the balancer sees it."""
        return Service(
            self.host, self.port, self.name, self.weight, self.standby, self.username, self.password,
            self.shared_key,
        )  # fmt: skip


class Security(Section):
    """`<security>`: who we are to servers that ask."""

    self_hostname = string("Our name; the servers must have other ones.")
    shared_key = string("The key that both sides know.", secret=True)


class ServiceDiscovery(Section):
    """`<service_discovery>`: where to learn of servers. Which parameters count depends on `@type`."""

    type = enum("`static`, `file` or `srv`.", ("static", "file", "srv"), alias="@type")

    services = sections(Server, "`static`: a server.", name="service")

    path = string("`file`: YAML or JSON list of servers.", "/etc/fluent/sd.yaml")
    conf_encoding = string("`file`: its encoding.", "utf-8")

    service = string("`srv`: service name without underscore.", None)
    proto = string("`srv`: protocol without underscore.", "tcp")
    hostname = string("`srv`: domain in which the service is looked up.", None)
    dns_server_host = string("`srv`: DNS server, `HOST` or `HOST:PORT`; not set: the system's.", None)
    interval = integer("`srv`: seconds between lookups.", 60)
    dns_lookup = boolean("`srv`: look up the targets' addresses at the same server.", True)
    shared_key = string("`srv`: as in <server>.", None, secret=True)
    username = string("`srv`: as in <server>.", "")
    password = string("`srv`: as in <server>.", "", secret=True)

    def configure(self) -> None:
        if self.type == "srv":
            for name in ("service", "hostname"):
                if getattr(self, name) is None:
                    raise ConfigError(f"{name!r} parameter is required for service discovery srv", param=name)
            if self.interval <= 0:
                raise ConfigError("interval must be greater than 0", param="interval")

"""Parameters that inputs with a socket share, to be mixed in before `Input`."""

from __future__ import annotations

from forwarder.api.errors import ConfigError
from forwarder.api.parameters import duration, integer, string


class Listening:
    """Where to listen. A plugin declares `port` with its own default."""

    port = integer("Port to listen on.", 0)
    bind = string("Address to listen on.", "0.0.0.0")

    bound_port = 0
    """The port in use; with `port 0` the kernel chooses it at the start."""

    def check_port(self) -> None:
        """Raises ConfigError where `port` is none."""
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"{self.port} is no port: expected 0 to 65535", param="port")


class Senders:
    """Fields for who has sent a message, and what Fluentd's inputs for messages have besides."""

    source_hostname_key = string(
        "Field for the sender's host name (reverse look-up; receiving waits for the resolver).", None
    )
    source_address_key = string("Field for the sender's address.", None)
    blocking_timeout = duration("Only has a meaning for Fluentd's event loop; does nothing here.", 0.5)

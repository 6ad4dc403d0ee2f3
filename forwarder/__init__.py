"""A Fluentd-compatible log forwarder: the engine. Plugin authors import `forwarder.api`."""

__version__ = "0.1.0"

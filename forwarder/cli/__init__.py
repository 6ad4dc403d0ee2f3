"""The command `forwarder`."""

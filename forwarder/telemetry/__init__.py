"""What the forwarder knows about itself: the ledger and its own log."""

"""Chunks between the emitting threads and the flush threads."""

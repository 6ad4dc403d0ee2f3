"""Parsers: text to records, one file each. `patterns/` holds the grok patterns."""

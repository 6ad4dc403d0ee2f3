"""Parts of in_tail."""

"""Parts of in_http."""

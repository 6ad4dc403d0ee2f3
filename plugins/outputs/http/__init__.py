"""Parts of out_http."""

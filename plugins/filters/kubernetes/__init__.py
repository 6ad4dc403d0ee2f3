"""What the filter `kubernetes_metadata` knows of the API server."""

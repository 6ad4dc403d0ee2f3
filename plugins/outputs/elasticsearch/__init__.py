"""What the elasticsearch output is made of: addresses, connections, one chunk's delivery."""

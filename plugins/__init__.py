"""The built-in plugins, one file each; they use only `forwarder.api`, as anybody's do."""

"""Built-in inputs."""

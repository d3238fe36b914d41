"""A fleet in containers, by the docker command."""

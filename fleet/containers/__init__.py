"""A fleet in containers: what docker is asked to do, and what it answers."""

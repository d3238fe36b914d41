"""TLS of a client: its stream, and the meaning of what goes wrong with it."""

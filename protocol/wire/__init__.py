"""Messages on MQTT: topics, signed envelopes, their bodies, chunks."""

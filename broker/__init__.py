"""MQTT: the broker's configuration, its certificates, and the only client."""

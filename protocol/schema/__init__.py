"""Schemas: canonical msgpack, strict JSON documents, TOML settings."""

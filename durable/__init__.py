"""Durable storage: atomic files, journals and small documents."""

"""Queues and links between the event loop and the brokers."""

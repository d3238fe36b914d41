"""Queues and messages between the event loop and its bus."""

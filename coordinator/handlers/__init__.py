"""Handlers of what comes in: messages of boards, frames and requests of peers."""

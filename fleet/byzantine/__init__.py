"""Wrongs that coordinators do on purpose, whatever world they run in."""

"""Membership: coordinators by id, signs of life, the responder for each board."""

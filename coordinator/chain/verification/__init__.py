"""Verification offline: replay, audit, damage location, receipts, and plain values."""

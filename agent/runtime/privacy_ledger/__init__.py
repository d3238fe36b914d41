"""The privacy ledger on disk: opened if intact, recounted, bound to its data."""

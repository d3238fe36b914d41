"""Transactions of a training task: update, version cut, attestation, reward, score."""

"""Transactions about participants: boards, validators, credits, parameters."""

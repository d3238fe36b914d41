"""Tendermint for one height: rounds, vote set, proposer order, proof of lock."""

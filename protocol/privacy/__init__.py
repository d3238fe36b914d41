"""Mechanisms, noise and the accountants of differential privacy."""

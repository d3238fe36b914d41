"""Homes that models are read from, and the tools that change or try them."""

"""Reverse-mode differentiation: tape, losses, and one rule per operator."""

"""One round of a board: readiness, lease, charge, training, moment of release."""

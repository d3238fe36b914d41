"""A running fleet as a snapshot: consensus findings and the terminal view."""

"""Activity of people with watches: each watch learns from its wearer alone."""

"""Published experiments, run again with everything that their numbers leave open."""

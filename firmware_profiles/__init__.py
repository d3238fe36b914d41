"""What each kind of board can carry: threads, memory, batch and heat."""

"""Links between the event loop and the brokers, on threads."""

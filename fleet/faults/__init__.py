"""What coordinators do wrong on purpose, whatever world they run in."""

"""What the event loop makes durable, in which order, and what it reads back."""

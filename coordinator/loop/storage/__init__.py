"""The order in which effects become durable, and what is read back."""

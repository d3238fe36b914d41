"""Rules that hold while some of a buffer's updates are made to harm."""

"""The agent's event loop, against ports that each world implements."""

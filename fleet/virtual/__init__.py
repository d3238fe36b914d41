"""The cores of agents and coordinator in one process, over a link in memory."""

"""State, events, effects and one step of the agent's core."""

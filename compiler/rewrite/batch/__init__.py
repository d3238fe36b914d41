"""The batch as the first axis of every value, also where parts are folded into it."""

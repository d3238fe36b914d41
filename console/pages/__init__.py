"""Pages of the console: pure functions from facts to HTML."""

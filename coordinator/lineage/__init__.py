"""From a bad version back to the contributions that carried it."""

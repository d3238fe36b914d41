"""Status document, counters, log alarms, and the health of broker and disk."""

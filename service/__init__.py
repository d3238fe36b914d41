"""Life under a service manager: units, readiness, watchdog and the journal's lines."""

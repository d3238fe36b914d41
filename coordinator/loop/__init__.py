"""The event loop of a coordinator, against ports: the same in every world."""

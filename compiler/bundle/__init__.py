"""From a network to a training bundle: graphs, checks, memory, report."""

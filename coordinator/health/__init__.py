"""Progress of consensus, stalls and their causes, checks of a status document."""

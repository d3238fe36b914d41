"""Operations of an operator, for the command line and the console alike."""

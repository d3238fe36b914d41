"""Making and repairing a coordinator's folder: genesis, keys, invitations."""

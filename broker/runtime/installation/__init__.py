"""The fleet's listener in a broker that is here already."""

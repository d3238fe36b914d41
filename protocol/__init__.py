"""The law both sides obey: pure, and the same on a board and a coordinator."""

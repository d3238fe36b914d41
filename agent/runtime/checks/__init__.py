"""`starling agent check`: whether a board is fit to take part, and what to do."""

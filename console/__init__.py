"""Web console of a coordinator, and its metrics for machines.

It reads what a coordinator writes, in a process of its own. What operators do there is
done by the functions of the command line.
"""

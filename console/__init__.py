"""Read-only web console of a coordinator, and its metrics for machines.

It reads what a coordinator writes, in a process of its own, and changes nothing.
"""

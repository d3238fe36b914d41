"""A whole fleet on one machine, as processes or in one."""

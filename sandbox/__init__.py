"""Sandbox: a process that reads hostile bytes keeps its memory and two pipes.

A parent starts the child with `child_process`: environment from nothing, empty folder.
The child imports what it needs and calls `confinement.enter` before it reads the first
byte that somebody else made. Linux only; whatever the kernel lacks is left out and
reported, never presumed.
"""

"""Examples, their file formats, and how they are partitioned over boards."""

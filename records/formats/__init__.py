"""Formats of files: CSV text, `.npz` arrays, PGM and PPM pictures, WAV sound."""

"""Command lines: `starling coordinator` and `starling chain`."""

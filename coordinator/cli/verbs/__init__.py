"""The verbs of `starling coordinator`, one module for each group."""

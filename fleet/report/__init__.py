"""A finished run: report document, plots, audit of receipts."""

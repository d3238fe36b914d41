"""The privacy ledger and the mechanisms: charges, costs, clipped sums, noise; pure."""

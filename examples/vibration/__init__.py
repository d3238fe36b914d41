"""Vibration anomaly: machines learn together how health sounds."""

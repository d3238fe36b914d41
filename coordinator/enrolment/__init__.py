"""Enrolment over the broker: tokens, and claims of newcomers."""

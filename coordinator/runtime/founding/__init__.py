"""Founding a chain with others over an enrolment listener, and what is kept of it."""

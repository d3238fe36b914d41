"""Enrolment over the broker, as a coordinator does it: files and threads."""

"""Keyword spotting: words of many speakers, as WAV files by class."""

"""Captured thoughts: the record of a run, and readers of what others released."""

"""Captured thoughts: the record, and the store that keeps what was captured."""

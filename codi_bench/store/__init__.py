"""The store: files written whole, and the cache of what was computed, by content."""

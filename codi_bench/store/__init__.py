"""The store: files are written whole, and computed arrays are cached by content."""

"""Models: load, think, answer, edit. Only this room knows transformers."""

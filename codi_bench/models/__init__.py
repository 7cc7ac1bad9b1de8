"""Models: load, think, answer, edit, train. The only room that knows transformers."""

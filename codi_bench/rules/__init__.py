"""Rules: numbers in, words out. No file, no model, no claim."""

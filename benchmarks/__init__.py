"""One short file a family of claims; how they are run is said in README.md."""

"""One rule of structural validation per file."""

"""One endpoint, or the pages of one purpose, per file."""

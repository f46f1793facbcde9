"""Search parameter types, one per file."""

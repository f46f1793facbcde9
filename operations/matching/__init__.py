"""Finding the same person: spellings of names, blocking keys, weights."""

"""Names, places and organisations by a small model over the words and their surroundings."""

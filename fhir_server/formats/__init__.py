"""Wire formats; each turns bytes into a JSON resource and back with nothing lost."""

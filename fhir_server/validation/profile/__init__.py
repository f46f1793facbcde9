"""Validation against profiles: each is compiled once, to closures over FHIRPath nodes."""

"""What a set of people gives away though each resource of it is de-identified."""

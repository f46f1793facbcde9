"""Plain values: JSON resources, problems, requests and responses, datatypes, units."""

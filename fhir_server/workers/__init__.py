"""The processes of a server: one, or several under a supervisor, and their connections."""

"""Authorization: access tokens."""

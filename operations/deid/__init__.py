"""De-identification: profiles as data and their transforms."""

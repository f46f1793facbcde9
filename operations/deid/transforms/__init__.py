"""Methods of rules: one file per family, one row per method."""

"""The gate: principal, scopes, policy, the Session that every handler is given."""

"""Model packages, registry and runtime."""

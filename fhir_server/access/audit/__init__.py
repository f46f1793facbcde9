"""The audit trail: who asked for what about whom, in chains that show every change."""

"""The job queue; owners register their job bodies."""

"""Settings, serve configs, and the checks before start-up."""

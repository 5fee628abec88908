"""Settings of who may use the service."""

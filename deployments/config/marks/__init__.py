"""Settings of marks."""

"""Text preparation for the prompt."""

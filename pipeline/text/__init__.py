"""Text on its way into a prompt."""

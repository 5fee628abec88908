"""Chinese: written forms as words."""

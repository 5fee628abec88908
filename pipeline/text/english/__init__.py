"""English: written forms as words."""

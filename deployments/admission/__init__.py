"""Who is served, when, and who is told at once that he is not. See docs/decisions/0019."""

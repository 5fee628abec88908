"""Models at the released sizes with random weights, for timing."""

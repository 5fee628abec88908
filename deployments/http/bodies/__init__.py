"""From the bytes of a request body to its fields."""

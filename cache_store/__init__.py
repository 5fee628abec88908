"""The cache: bytes, keys and tiers. Only `cluster` uses Ray."""

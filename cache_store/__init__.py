"""The cache: bytes, keys and tiers. Knows no model and no HTTP; only `cluster` may know Ray."""

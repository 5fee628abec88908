"""A client of the public HTTP API, for the `timbre` command: no back door."""

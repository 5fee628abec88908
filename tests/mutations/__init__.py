"""Guards of the threat model, each taken out in turn: a test must notice. `make mutations`."""

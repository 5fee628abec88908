"""A service on this machine, for `timbre up` and `timbre demo`."""

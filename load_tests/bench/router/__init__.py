"""What a request costs outside of the stages, and where."""

"""Bench of what one tenant could learn of another by a clock."""

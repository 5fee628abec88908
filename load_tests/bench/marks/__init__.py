"""Bench of marks: what they cost, what they survive, and what one hears of them."""

"""How docs/ is made, and held to the code."""

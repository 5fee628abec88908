"""How many replicas a stage has, and when one of them is replaced."""

"""Fuzzing of whatever reads bytes that a stranger wrote. `make fuzz`; see targets.py and run.py."""

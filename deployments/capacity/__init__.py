"""How many cards a load takes: a simulation of the service, and what it says of numbers asked for.

The simulation runs on SimPy (extra `plan`); its times are of `profiles/`, which come from benchmarks.
"""

"""How many cards a load takes: a simulation of the service, and what follows from it.

It runs on SimPy (extra `plan`); its times are of `profiles/`, which come from benchmarks.
"""

"""Marks over HTTP: who may have audio without one, and whether a file has one."""

"""The recipe that made the embedded checkpoint.

Imports the model's classes, never the serving code.
"""

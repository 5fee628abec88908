"""Triton kernels of a decode step, a prefill and a draw, and whether this machine runs them."""

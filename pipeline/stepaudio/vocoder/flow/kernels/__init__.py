"""Triton kernels of the estimator's Euler step. Imported only where Triton is available."""

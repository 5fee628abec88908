"""Load on a running service: named workloads, open loops, and clients that time every byte."""

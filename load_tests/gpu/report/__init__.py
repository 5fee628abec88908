"""From the kit's results to `docs/gpu.md`: floors, projections, tables."""

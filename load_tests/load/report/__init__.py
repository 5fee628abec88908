"""From results of runs to a page with plots, and two commits beside each other."""

"""Evaluation of speech by our phoneme judge and by signal measures."""

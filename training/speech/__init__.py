"""The training data: texts, voices, clips and their features."""

"""The speech that is learned from: texts, voices, clips and their features."""

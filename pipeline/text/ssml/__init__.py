"""SSML, as far as it is served."""

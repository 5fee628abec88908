"""Voices: from a reference to a voice prompt, through the cache."""

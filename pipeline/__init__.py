"""timbre's pipeline: from a reference clip and a text to speech."""

"""timbre's pipeline: from a reference clip and a text to speech.

Knows no Ray, no HTTP and no cache.
"""

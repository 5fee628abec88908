"""What the caches saved, over HTTP."""

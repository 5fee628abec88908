"""What the caches saved over the long run: by tenant and voice, kept over restarts."""

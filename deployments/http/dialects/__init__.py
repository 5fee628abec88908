"""Request bodies of each API that clients speak."""

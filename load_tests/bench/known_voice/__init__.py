"""What a replica that does not know a voice pays for it, and what would spare it that."""

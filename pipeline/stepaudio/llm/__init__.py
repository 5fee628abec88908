"""The language model: a prompt becomes audio tokens."""

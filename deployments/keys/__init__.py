"""API keys: made, kept, looked up; and the tokens of an identity provider."""

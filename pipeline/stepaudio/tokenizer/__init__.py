"""The tokenizer's model: a reference clip becomes a voice prompt."""

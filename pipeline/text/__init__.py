"""Text on its way into a prompt. Knows no tokenizer."""

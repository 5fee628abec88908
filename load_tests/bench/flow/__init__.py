"""How tokens get from the LLM to the vocoder: ways of control compared, and what Ray's own do."""

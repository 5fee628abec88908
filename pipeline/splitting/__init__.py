"""Long texts and clips in parts that the model takes, each with the words that belong to it."""

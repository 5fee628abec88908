"""Long texts as one reply: spoken segment by segment, the next made while one is heard."""

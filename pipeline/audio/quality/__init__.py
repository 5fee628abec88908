"""How good a clip is for cloning: what can be measured of it, and what to do about it."""

"""`timbre doctor`: what is wrong with a machine or a config, who reaches what, and the remedies."""

"""One module per Ray Serve deployment, and what the stages share."""

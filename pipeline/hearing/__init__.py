"""What a listener understood of speech, held against what was to be said."""

"""What is measured of speech, by our phoneme judge and by signal measures."""

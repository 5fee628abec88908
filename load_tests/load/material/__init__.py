"""What is sent: texts to speak, and clips of voices."""

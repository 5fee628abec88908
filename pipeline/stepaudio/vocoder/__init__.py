"""The vocoder's model: audio tokens become a waveform."""

"""Mel to waveform: HiFT, whole and streamed."""

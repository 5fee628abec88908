"""Audio files and waveforms: decode, encode, resample, change speed. Knows no model."""

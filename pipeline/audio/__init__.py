"""Audio files and waveforms: decode, encode, resample, change speed."""

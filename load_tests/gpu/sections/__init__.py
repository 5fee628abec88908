"""What the GPU kit measures, a section each."""

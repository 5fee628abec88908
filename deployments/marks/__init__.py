"""What the service does so that its audio is known as synthetic: beside the watermark itself."""

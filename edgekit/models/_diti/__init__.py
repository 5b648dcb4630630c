"""What a denoiser that was trained without labels has lost at each level of noise, as a code: networks, training, probes, deployment."""

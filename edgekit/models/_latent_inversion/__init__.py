"""What latent inversion with timestep-aware sampling is made of."""

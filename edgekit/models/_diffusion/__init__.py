"""What all diffusion families share: levels and their schedule, the network, samplers as tables, the deployed program."""

"""Video diffusion with a level of noise per frame: clips, training, films, tables, the deployed tasks."""

"""Recipes: choices and numbers, one TOML file each."""

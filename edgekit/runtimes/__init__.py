"""Engines that open bundles, one file each."""

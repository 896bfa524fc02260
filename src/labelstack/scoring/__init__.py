"""Metrics, intervals over images, and scored label sets; plain NumPy."""

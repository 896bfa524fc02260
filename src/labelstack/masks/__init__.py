"""Masks of instances as run lengths: text and pixels to runs and back, and what is found on runs alone."""

"""Segmentation: networks that give every pixel a class, their losses and scores, training that survives a kill."""

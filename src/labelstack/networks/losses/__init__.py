"""Losses, one file each: a name in params.yaml is a function here or of a plug-in (params/loss_names.py)."""

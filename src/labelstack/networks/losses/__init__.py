"""Losses, one file each: ``models.<name>.loss`` names one of them, or a plug-in's; the names: params/loss_names.py."""

"""Losses, one file each: ``models.<name>.loss`` names one, or a plug-in's, or is made of them (``combined``).

The names: params/loss_names.py; their options: params/losses.py.
"""

"""Shards: their form, how they are filled and by whom."""

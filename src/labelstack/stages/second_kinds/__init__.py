"""Kinds of second-round models: what each gives its networks to look at, to learn, and to begin with."""

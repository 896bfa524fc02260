"""A recipe rehearsed: its params made small, data in its own form, a copy of the project, and a run of all stages."""

"""Versions of ensembles in MLflow's registry: champion, promotion, model card, rebuild."""

"""The one-file kernel: an ensemble that predicts where neither labelstack nor a network is, as on Kaggle."""

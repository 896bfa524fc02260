"""The ensemble as one thing: images in, labels out; its folder, its record, its form in MLflow."""

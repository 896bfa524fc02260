"""MLflow stores, without what the environment says of them."""

from stores import _own_environment, empty_database, root, server, tracker

__all__ = ["_own_environment", "empty_database", "root", "server", "tracker"]

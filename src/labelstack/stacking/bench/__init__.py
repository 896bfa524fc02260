"""The second level's benchmark: `labelstack bench` alone imports it."""

"""Image URLs to training batches: fetched, kept in shards, decoded, augmented; the loader reads shards in processes."""

"""Image URLs to training batches: fetch, shards, decode, augment, test-time augmentation."""

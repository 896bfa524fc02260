"""From stored bytes to arrays and back: decoding, augmentation, test-time augmentation."""

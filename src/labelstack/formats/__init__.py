"""Competition files to the manifest and back; submission writers."""

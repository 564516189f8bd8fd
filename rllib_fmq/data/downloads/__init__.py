"""Where datasets are found: on this disk, or at a mirror."""

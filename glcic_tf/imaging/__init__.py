"""Files to pixels and back with their metadata, holes and masks, and pictures of results."""

"""From a folder of photos or shards to batches of examples, each a crop with a hole."""

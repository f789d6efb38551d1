"""Names of photos in shards."""

COUNT = 30


def names(paths):
    return [path.name for path in paths]

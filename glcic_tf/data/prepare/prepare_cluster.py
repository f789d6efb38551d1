"""Prepare a folder of photos by a cluster: its parts are the tasks, and the shards are those of any other machine."""

from tqdm import tqdm

from glcic_tf.data.prepare import merge, prepare_folder
from glcic_tf.data.prepare.entry import Settings

_PARTS_A_SLOT = 4  # so that no slot waits long for the last part
_PROCESSES = 2  # beside the task's own, so that a photo that crashes a library costs itself alone


def prepare(cluster, folder, output, photo_settings=None, shard_mb=256.0, count=0, processes=0):
    """Write the photos of a folder, which all nodes see, as shards.

    Args:
        cluster: `ray_cluster.Cluster`.
        folder, output, photo_settings, shard_mb: as for `prepare_folder.prepare`.
        count: parts; 0: those that the shards were begun with, else four for each task that runs at once.
        processes: that decode in a task; 0: two.

    Returns:
        dict of index.json.

    Raises:
        UserError: as `prepare_folder.prepare`.
    """
    photo_settings = photo_settings or Settings()
    count = count or prepare_folder.parts_begun(output) or _PARTS_A_SLOT * cluster.slots()
    settings, names = prepare_folder.begin(folder, output, photo_settings, shard_mb, count)
    left = merge.unfinished(output, settings)
    given = (folder, output, photo_settings, shard_mb)
    calls = [(*given, (part, count), processes or _PROCESSES) for part in left]
    sizes = {part: _size(len(names), part, count) for part in range(1, count + 1)}
    with tqdm(
        total=len(names), initial=len(names) - sum(sizes[part] for part in left), unit="photo", disable=None
    ) as bar:
        for call, _ in cluster.tasks(prepare_folder.prepare_part, calls):
            bar.update(sizes[call[4][0]])
    return merge.merge(output)


def _size(found, part, of):
    begin, end = merge.bounds(found, part, of)
    return end - begin

"""Write photos as shards, which training reads as it reads the folder, but faster where files are slow to open.

`prepare_command` has the flags, `prepare_folder` the work; docs/data.md says what it writes.
TensorFlow is not needed: its import would cost every process five seconds and 300 MB.
"""

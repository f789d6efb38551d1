"""Write photos as shards, which training reads as it reads the folder, but faster where files are slow to open.

`python -m glcic_tf.data.prepare` is in `__main__`, its work in `prepare_folder`; docs/data.md says what it writes.
TensorFlow is not needed: its import would cost every process five seconds and 300 MB.
"""

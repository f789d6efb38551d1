"""Train on a folder of photos: `glcic train`, whose flags `train.py --help` shows."""

from glcic_tf.__main__ import main

if __name__ == "__main__":
    main("train")

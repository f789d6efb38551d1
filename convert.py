"""Convert published weights: `glcic convert`, whose flags `convert.py --help` shows."""

from glcic_tf.__main__ import main

if __name__ == "__main__":
    main("convert")

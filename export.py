"""Export a model: `glcic export`, whose flags `export.py --help` shows."""

from glcic_tf.__main__ import main

if __name__ == "__main__":
    main("export")

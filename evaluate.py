"""Measure models and other methods: `glcic evaluate`, whose flags `evaluate.py --help` shows."""

from glcic_tf.__main__ import main

if __name__ == "__main__":
    main("evaluate")

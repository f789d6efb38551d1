"""Complete photos: `glcic complete`, whose flags `infer.py --help` shows."""

from glcic_tf.__main__ import main

if __name__ == "__main__":
    main("complete")

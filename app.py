"""Open the page: `glcic app`, whose flags `app.py --help` shows."""

from glcic_tf.__main__ import main

if __name__ == "__main__":
    main("app")

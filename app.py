"""Open a page to remove things from photos: paint over them, press Complete.

  app.py
  app.py --model run/joint.keras,package --port 8080

Photos stay on this machine, and nobody else on the network sees the page, unless --host says so.
"""

import sys

from absl import flags

try:
    from glcic_tf.apps.page import page_server
    from glcic_tf.common import cli
except ImportError as error:  # another Keras backend is asked for, or a package is missing
    sys.exit(f"app.py: {error}")


def main():
    args = flags.FLAGS
    page_server.serve(args.model, args.host, args.port, args.max_upload_mb, args.max_megapixels, args.max_queue)


if __name__ == "__main__":
    flags.DEFINE_list(
        "model", ["package"], "Model files (.keras) to choose from, the first to begin with; package: the weights here."
    )
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0: let other machines use the page.")
    flags.DEFINE_integer("port", 7860, "Port to listen on; 0: any that is free.", 0, 65535)
    flags.DEFINE_float("max_upload_mb", 100, "Refuse larger files.", 1, 10_000)
    flags.DEFINE_float("max_megapixels", 100, "Refuse larger photos and masks before decoding them.", 0.01, 268)
    flags.DEFINE_integer("max_queue", 16, "Refuse what is asked for while so many requests wait.", 1, 1000)
    cli.run(main)

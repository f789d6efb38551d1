"""`glcic app`: its flags, and the call that they make."""

from absl import flags


def define_app_flags():
    """Define the command's flags."""
    flags.DEFINE_list(
        "model", ["package"], "Model files (.keras) to choose from, the first to begin with; package: the weights here."
    )
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0: let other machines use the page.")
    flags.DEFINE_integer("port", 7860, "Port to listen on; 0: any that is free.", 0, 65535)
    flags.DEFINE_float("max_upload_mb", 100, "Refuse larger files.", 1, 10_000)
    flags.DEFINE_float("max_megapixels", 100, "Refuse larger photos and masks before decoding them.", 0.01, 268)
    flags.DEFINE_integer("max_queue", 16, "Refuse what is asked for while so many requests wait.", 1, 1000)


def run_app():
    """Open a page to remove things from photos: paint over them, press Complete.

      glcic app
      glcic app --model run/joint.keras,package --port 8080

    Photos stay on this machine, and nobody else on the network sees the page, unless --host says so.
    """
    from glcic_tf.apps.page import page_server

    args = flags.FLAGS
    page_server.serve(args.model, args.host, args.port, args.max_upload_mb, args.max_megapixels, args.max_queue)

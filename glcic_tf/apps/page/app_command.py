"""`glcic app`: its flags, and the call that they make."""

from absl import flags

from glcic_tf.apps import listening, quota
from glcic_tf.completion import device_choice


def define_app_flags():
    """Define the command's flags."""
    flags.DEFINE_list(
        "model",
        [],
        "Names (see `glcic models`) and model files (.keras) to choose from, the first to begin with; package: scenes. "
        "By default that, and all others that ship or were downloaded.",
    )
    device_choice.define_flag()
    listening.define_flags(7860, "use the page")
    quota.define_flags()


def run_app():
    """Open a page to remove things from photos: paint over them, press Complete.

      glcic app
      glcic app --model run/joint.keras,scenes --port 8080

    Photos stay on this machine, and nobody else on the network sees the page, unless --host says so.
    """
    from glcic_tf.apps.page import page_server

    args = flags.FLAGS
    device_choice.choose(args.device)
    limits = quota.limits_from(args)
    page_server.serve(args.model, args.host, args.port, limits, args.allowed_hosts, args.root_path, args.token)
    listening.leave_completions()

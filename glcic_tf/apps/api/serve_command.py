"""`glcic serve`: its flags, and the call that they make."""

from absl import flags

from glcic_tf.apps import listening, quota
from glcic_tf.completion import device_choice


def define_serve_flags():
    """Define the command's flags."""
    flags.DEFINE_list(
        "model",
        ["package"],
        "Names (see `glcic models`) and model files (.keras) to choose from, the first by default; package: scenes.",
    )
    device_choice.define_flag()
    listening.define_flags(8000, "use the API")
    quota.define_flags()


def run_serve():
    """Answer completions over HTTP, for programs.

      glcic serve
      glcic serve --model scenes,run/joint.keras --host 0.0.0.0 --port 8080 --token=random
      curl -F image=@photo.jpg -F mask=@mask.png -o completed.jpg http://127.0.0.1:8000/api/v1/complete

    The page of `glcic app` has the same API beside it. /docs lists what can be asked.
    """
    from glcic_tf.apps.api import api_server

    args = flags.FLAGS
    device_choice.choose(args.device)
    limits = quota.limits_from(args)
    api_server.serve(args.model, args.host, args.port, limits, args.allowed_hosts, args.root_path, args.token)
    listening.leave_completions()

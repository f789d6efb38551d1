"""The page to remove things from photos: `app.py`.

`photo` is one photo at work, `photos` all of them, `models` the networks, `folder` what is temporary; `page` is what
the browser shows, `work` what its buttons do, and `server` lets nothing through but what the page needs.
"""

import os

# Read by Gradio and by what it imports, when they are imported: nothing is sent anywhere.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = os.environ["HF_HUB_OFFLINE"] = "1"

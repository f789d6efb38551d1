"""The page to remove things from photos: `glcic app`.

`painted_photo` is one photo at work, `previews` what the browser has of it, `open_photos` all of them, and
`temporary_files` what is temporary; `layout` is what the browser shows, `buttons` what its buttons do, and
`page_server` lets nothing through but what the page needs.
"""

import os

# Read by Gradio and by what it imports, when they are imported: nothing is sent anywhere.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = os.environ["HF_HUB_OFFLINE"] = "1"

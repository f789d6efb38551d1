"""The HTTP API: `glcic serve`, and beside the page of `glcic app`.

`request_completion` makes an answer of a request, `api_server` is the application and what stands before it.
"""

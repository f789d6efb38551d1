"""A study like the paper's (section 4): people say of real and completed pictures whether they look natural.

`prepare` makes the set of pictures, `server` shows them and takes answers, `answers` keeps them, `statistics` and
`report` say what came out. Only `prepare` needs what completes pictures.
"""

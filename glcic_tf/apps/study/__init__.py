"""A study like the paper's (section 4): people say of real and completed pictures whether they look natural.

`picture_set` makes the set of pictures, `study_server` shows them and takes answers, `answers` keeps them, `statistics`
and `study_report` say what came out. Only `picture_set` needs what completes pictures.
"""

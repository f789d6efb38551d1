"""Complete holes in images of any size: the one way that the scripts, the page and the evaluation share."""

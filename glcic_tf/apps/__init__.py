"""Commands around the method: the page, the user study, training elsewhere, the demo and the curves of a run."""

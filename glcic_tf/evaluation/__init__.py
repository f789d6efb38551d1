"""Measure completion methods on a folder of photos, and report the figures."""

"""Kinetrack: folders of action videos into a trained, tracked, reproducible action recogniser."""

__version__ = "0.1.0"

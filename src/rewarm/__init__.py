"""Rewarm keeps language models current: new text in, a better model and the proof out."""

__version__ = "0.1.0"

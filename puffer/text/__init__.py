"""Text from strangers, cleaned, rendered and formatted for pages."""

from puffer.text.clean import excerpt, has_control_characters, one_line, storable, without_control_characters
from puffer.text.formatting import AtLeast, counted, dollars, duration, moment, whole
from puffer.text.markdown import render
from puffer.text.normalize import normalize

__all__ = [
    "AtLeast",
    "counted",
    "dollars",
    "duration",
    "excerpt",
    "has_control_characters",
    "moment",
    "normalize",
    "one_line",
    "render",
    "storable",
    "whole",
    "without_control_characters",
]

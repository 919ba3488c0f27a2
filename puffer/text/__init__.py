"""Clean and render untrusted text, and format numbers and times for pages."""

from puffer.text.clean import (
    excerpt,
    has_control_characters,
    is_blank,
    one_line,
    storable,
    without_bidi,
    without_control_characters,
    without_invisible,
)
from puffer.text.formatting import AtLeast, counted, dollars, duration, moment, whole
from puffer.text.markdown import nests_deeply, render
from puffer.text.normalize import normalize

__all__ = [
    "AtLeast",
    "counted",
    "dollars",
    "duration",
    "excerpt",
    "has_control_characters",
    "is_blank",
    "moment",
    "nests_deeply",
    "normalize",
    "one_line",
    "render",
    "storable",
    "whole",
    "without_bidi",
    "without_control_characters",
    "without_invisible",
]

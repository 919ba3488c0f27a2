"""Text from strangers, cleaned, rendered and formatted for pages."""

from puffer.text.clean import one_line, storable
from puffer.text.formatting import counted, dollars, duration, moment, whole
from puffer.text.markdown import Budget, render

__all__ = [
    "Budget",
    "counted",
    "dollars",
    "duration",
    "moment",
    "one_line",
    "render",
    "storable",
    "whole",
]

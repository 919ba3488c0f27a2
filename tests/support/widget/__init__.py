"""The widget, its calls and the pages that embed it."""

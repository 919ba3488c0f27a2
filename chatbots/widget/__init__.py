"""The widget on a page: its configuration, files, labels and webhook events."""

from chatbots.widget.pages import chat_page, loader, widget_file

__all__ = [
    "chat_page",
    "loader",
    "widget_file",
]

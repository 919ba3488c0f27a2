"""What a page needs to show a chatbot: configuration, files, labels and events."""

from chatbots.widget.pages import chat_page, loader, widget_file

__all__ = [
    "chat_page",
    "loader",
    "widget_file",
]

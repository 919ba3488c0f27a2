"""POST /chat/{id}/message, and the calls of the widget."""

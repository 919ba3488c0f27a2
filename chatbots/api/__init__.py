"""The chat endpoint for API keys, and the endpoints that the widget calls."""

"""What providers are asked and answer."""

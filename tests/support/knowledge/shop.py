"""The documents of a shoe shop, for chatbots that answer from them."""

RETURNS = {
    "id": "returns",
    "content": "Shoes may be returned within 45 days. The receipt is needed.",
    "metadata": {"title": "Returns", "url": "https://shop.example/returns"},
}
OPENING = {
    "id": "opening",
    "content": "The shop opens at nine and closes at six.",
    "metadata": {"title": "Opening hours"},
}

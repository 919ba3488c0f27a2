"""One adapter per wire protocol: our nouns to the vendor's request, the vendor's answer to our nouns."""

"""How Django writes dates on pages."""

"""Import and export of chatbots, erasure of persons, and the switch to another collection."""

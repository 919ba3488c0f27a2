"""One adapter per wire protocol: it translates our data types to the vendor's request, and the answer back."""

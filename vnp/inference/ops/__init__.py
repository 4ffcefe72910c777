"""The operations an architecture is made of, once per kind of device."""

"""Published files of the markets: one module an exchange, `file` gives the bytes of a path."""

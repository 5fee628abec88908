"""How a request is to be served, on which terms, when more is wanted; and where its time goes."""

"""How a request is to be served: on which terms, and when more of its answer is wanted."""

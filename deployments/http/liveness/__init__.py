"""How the proxy knows that the router which has a request is there, however long it takes."""

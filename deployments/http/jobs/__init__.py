"""Jobs over HTTP: bodies, reports, and what the pages say of them."""

"""Keys over HTTP: what guards every route, and the pages of an operator."""

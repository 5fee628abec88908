"""The page at /ui: files for a browser, which calls the HTTP API as any other client does."""

"""Text as sounds of two languages: one set of symbols, and who reads which script."""

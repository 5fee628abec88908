"""Clips over HTTP, before anything is made of them."""

"""Sections of the settings about tenants and their keys."""

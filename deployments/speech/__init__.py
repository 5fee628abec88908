"""Finished speech, kept and answered again; and speech that several listen to while it is made."""

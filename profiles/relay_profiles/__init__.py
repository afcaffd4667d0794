"""Profiles: named JSON settings for a session, and where they are looked up."""

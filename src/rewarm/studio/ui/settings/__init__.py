"""Tabs of the settings that are long."""

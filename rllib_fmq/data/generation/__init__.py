"""Scripted policies that record datasets in the official formats."""

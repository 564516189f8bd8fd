"""Figures of a study report: one module a subject, `catalogue` lists them all."""

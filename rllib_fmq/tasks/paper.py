"""What the paper reports on its twelve tasks."""

from __future__ import annotations

PAPER_SCORES: dict[str, dict[str, tuple[float, float]]] = {
    "can": {
        "QC": (0.88, 0.06),
        "MVP (reported)": (0.92, 0.07),
        "MVP": (0.83, 0.07),
        "MVP + QGBS": (0.87, 0.07),
        "FMQ": (0.96, 0.04),
        "FMQ + QGBS": (0.97, 0.03),
    },
    "square": {
        "QC": (0.89, 0.04),
        "MVP (reported)": (0.93, 0.01),
        "MVP": (0.82, 0.04),
        "MVP + QGBS": (0.83, 0.05),
        "FMQ": (0.94, 0.02),
        "FMQ + QGBS": (0.95, 0.04),
    },
    "cube-dbl-t3": {
        "QC": (1.00, 0.00),
        "MVP (reported)": (1.00, 0.00),
        "MVP": (1.00, 0.00),
        "MVP + QGBS": (1.00, 0.00),
        "FMQ": (1.00, 0.00),
        "FMQ + QGBS": (1.00, 0.00),
    },
    "cube-dbl-t4": {
        "QC": (0.92, 0.05),
        "MVP (reported)": (0.95, 0.04),
        "MVP": (0.98, 0.02),
        "MVP + QGBS": (0.98, 0.02),
        "FMQ": (0.98, 0.02),
        "FMQ + QGBS": (1.00, 0.00),
    },
    "cube-trl-t3": {
        "QC": (0.83, 0.08),
        "MVP (reported)": (0.71, 0.06),
        "MVP": (0.64, 0.12),
        "MVP + QGBS": (0.78, 0.12),
        "FMQ": (0.78, 0.10),
        "FMQ + QGBS": (0.84, 0.04),
    },
    "cube-trl-t4": {
        "QC": (0.37, 0.26),
        "MVP (reported)": (0.52, 0.11),
        "MVP": (0.32, 0.07),
        "MVP + QGBS": (0.37, 0.09),
        "FMQ": (0.88, 0.07),
        "FMQ + QGBS": (0.87, 0.05),
    },
    "scene-t4": {
        "QC": (0.99, 0.01),
        "MVP": (0.92, 0.02),
        "MVP + QGBS": (0.98, 0.02),
        "FMQ": (1.00, 0.00),
        "FMQ + QGBS": (0.99, 0.01),
    },
    "scene-t5": {
        "QC": (0.96, 0.02),
        "MVP": (0.90, 0.06),
        "MVP + QGBS": (0.95, 0.05),
        "FMQ": (0.98, 0.02),
        "FMQ + QGBS": (1.00, 0.00),
    },
    "hmaze-med-t3": {
        "QC": (0.65, 0.11),
        "MVP": (0.47, 0.10),
        "MVP + QGBS": (0.53, 0.03),
        "FMQ": (0.69, 0.04),
        "FMQ + QGBS": (0.58, 0.07),
    },
    "hmaze-med-t4": {
        "QC": (0.04, 0.03),
        "MVP": (0.00, 0.00),
        "MVP + QGBS": (0.02, 0.02),
        "FMQ": (0.06, 0.03),
        "FMQ + QGBS": (0.06, 0.03),
    },
    "amaze-gnt-t4": {
        "QC": (0.64, 0.12),
        "MVP": (0.42, 0.06),
        "MVP + QGBS": (0.43, 0.04),
        "FMQ": (0.80, 0.06),
        "FMQ + QGBS": (0.77, 0.03),
    },
    "amaze-gnt-t5": {
        "QC": (0.91, 0.05),
        "MVP": (0.82, 0.08),
        "MVP + QGBS": (0.90, 0.06),
        "FMQ": (0.92, 0.04),
        "FMQ + QGBS": (0.92, 0.05),
    },
}
"""Success rate per task and method: (mean, standard deviation) over 5 seeds of 50 episodes.

"MVP (reported)" is the score that MVP's own paper reports; the other columns are the paper's runs.
Source: Table 1.
"""

PAPER_IQM: dict[str, tuple[float, float, float]] = {
    "QC": (0.86, 0.84, 0.87),
    "MVP": (0.75, 0.73, 0.77),
    "MVP + QGBS": (0.81, 0.78, 0.83),
    "FMQ": (0.91, 0.89, 0.93),
    "FMQ + QGBS": (0.93, 0.91, 0.94),
}
"""Interquartile mean of the success rates of all twelve tasks, and its 95% interval, per method.

Source: Table 1.
"""

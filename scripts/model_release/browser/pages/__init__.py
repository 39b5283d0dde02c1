"""A release -> report.html and its live page."""

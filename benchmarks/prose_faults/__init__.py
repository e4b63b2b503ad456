"""Faulty chunks that resemble what models write, and how many of them the checks of prose find."""

"""Sheets of print: what each figure on paper shows, and the style that all share."""

"""The report as people read it: a page, a PDF, Markdown and a terminal's tables."""

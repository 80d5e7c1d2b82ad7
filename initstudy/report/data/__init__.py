"""What a report reads, prepared for its charts and tables."""

"""What is to be learned."""

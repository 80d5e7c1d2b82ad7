"""Statistics of layers within other libraries' trainers; each needs its library."""

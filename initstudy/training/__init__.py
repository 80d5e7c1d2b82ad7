"""From a configuration to objects, and one pack of runs as rows."""

"""Where packs train."""

"""The profiles of a group of exposures, averaged."""

"""Model versions with their lineage, as checksummed folders."""

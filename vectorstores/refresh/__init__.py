"""Sources of a collection: pages, sites, feeds and folders that are read again on a schedule."""

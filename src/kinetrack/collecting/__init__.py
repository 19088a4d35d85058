"""From a collection as people keep it to a data set: archives, addresses, folders, manifests."""

"""rtnetlink: links, addresses, routes, neighbours."""

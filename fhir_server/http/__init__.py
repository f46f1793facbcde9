"""Raw ASGI front: route table, dispatch, negotiation, limits."""

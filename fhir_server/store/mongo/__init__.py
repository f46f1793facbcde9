"""The store on MongoDB: a replica set or a sharded cluster."""
